"""Respond: the token is stored; no later failure costs anything."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import EnvironBuilder

from benchmarks.crash_campaign import Campaign
from finch_middleware import Connection
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import NAVIGATION, Browser, Site
from tests.story.oracle import code_of, tokens_of


def test_respond_broken_pipe_keeps_the_token_and_a_reload_shows_success(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.delay(0.2))
    parts = urlsplit(callback)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = {**NAVIGATION, "Cookie": cookies, "Host": urlsplit(site.origin).netloc}
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items())]

    line = socket.create_connection(("127.0.0.1", urlsplit(site.origin).port or 0))
    line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    fake.ledger.wait_for_calls("token")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()
    until = time.monotonic() + 60
    while not site.named("finch.connection.stored") and time.monotonic() < until:
        time.sleep(0.01)
    reload = browser.get(callback)

    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_respond_start_response_raises_and_is_not_called_again(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = urlsplit(fake.allow(browser.location()))
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = [*NAVIGATION.items(), ("Cookie", cookies)]
    environ = EnvironBuilder(
        path=callback.path, query_string=callback.query, headers=headers
    ).get_environ()
    started: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Any:
        started.append(status)
        raise ConnectionError("the server gave up")

    with pytest.raises(ConnectionError):
        site.app(environ, start_response)
    reload = browser.get(callback.geturl())

    assert started == ["303 SEE OTHER"]
    assert "finch=connected" in reload.location
    assert fake.ledger.calls("token") == 1


def test_respond_server_aborts_and_closes_what_it_was_given(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = urlsplit(fake.allow(browser.location()))
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    environ = EnvironBuilder(
        path=callback.path, query_string=callback.query, headers=[("Cookie", cookies)]
    ).get_environ()

    body: Any = site.app(environ, lambda *_: lambda data: None)
    pieces: Iterator[bytes] = iter(body)
    next(pieces, None)
    if hasattr(body, "close"):
        body.close()
    reload = browser.get(callback.geturl())

    assert "finch=connected" in reload.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_respond_hook_raises_and_the_person_is_connected(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    told: list[str] = []

    def hook(connection: Connection) -> None:
        told.append(connection.attempt_id)
        raise RuntimeError(connection.access_token.reveal())

    site = make_site(on_connected=hook)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert [each.name for each in site.events] == ["finch.connection.stored", "finch.hook.failed"]
    assert told == [site.events[0].attempt_id]


def test_respond_hook_killed_inside_is_called_again_with_the_attempts_id(
    worker: Campaign,
) -> None:
    answer = worker.answered(f"openat:signal={signal.SIGKILL.name}:when=1", only="notified")

    # The campaign's own check found the attempt's id among those that the hook was called with.
    assert answer == ""
    assert not worker.figures.faults


def test_respond_reload_back_or_second_tab_gets_the_same_redirect(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    before = dict(browser.cookies)
    first = browser.get(callback)

    reload = browser.get(callback)
    second_tab = Browser(site, before).get(callback)

    assert first.location == reload.location == second_tab.location
    assert "finch=connected" in first.location
    assert fake.ledger.calls("token") == 1
