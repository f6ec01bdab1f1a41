"""Respond: the token is stored; no later failure costs anything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import EnvironBuilder

from benchmarks.crash_campaign import Campaign
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import NAVIGATION, Browser, Site
from tests.story.oracle import tokens_of


def environ_of(browser: Browser, callback: str) -> dict[str, Any]:
    """What a server makes of this browser's visit to *callback*."""
    parts = urlsplit(callback)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = [*NAVIGATION.items(), ("Cookie", cookies)]
    return EnvironBuilder(path=parts.path, query_string=parts.query, headers=headers).get_environ()


def test_respond_start_response_raises_and_is_not_called_again(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    environ = environ_of(browser, callback)
    started: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Any:
        started.append(status)
        raise ConnectionError("the server gave up")

    with pytest.raises(ConnectionError):
        site.app(environ, start_response)
    reload = browser.get(callback)

    assert started == ["303 SEE OTHER"]
    assert "finch=connected" in reload.location
    assert fake.ledger.calls("token") == 1


def test_respond_server_aborts_and_closes_what_it_was_given(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    environ = environ_of(browser, callback)

    body: Any = site.app(environ, lambda *_: lambda data: None)
    pieces: Iterator[bytes] = iter(body)
    next(pieces, None)
    if hasattr(body, "close"):
        body.close()
    reload = browser.get(callback)

    assert "finch=connected" in reload.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_respond_hook_killed_inside_is_called_again_with_the_attempts_id(
    worker: Campaign,
) -> None:
    answer = worker.answered(f"openat:signal={signal.SIGKILL.name}:when=1", only="notified")

    # The campaign's own check found the attempt's id among those that the hook was called with.
    assert answer == ""
    assert not worker.figures.faults
