"""The sessions of those examples whose framework has none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import Client

from tests.examples.running import EXAMPLES

Sites = Callable[[bytes], Client]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Sites:
    """A browser at an application that tells its session, or with /clear ends it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    bare = importlib.import_module("bare")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["session"]
        if environ["PATH_INFO"] == "/clear":
            session.clear()
        start_response("200 OK", [])
        return [session.get("csrf_token", "").encode()]

    return lambda key: Client(bare.SignedSessions(app, key=key))


def test_a_session_lasts(site: Sites) -> None:
    browser = site(b"key")

    first, second = browser.get("/"), browser.get("/")

    assert len(first.text) > 20
    assert second.text == first.text
    assert "Set-Cookie" not in second.headers


def test_a_cleared_session_has_another_token(site: Sites) -> None:
    browser = site(b"key")
    before = browser.get("/").text

    browser.get("/clear")

    assert browser.get("/").text not in ("", before)


def test_a_session_signed_with_another_key_counts_for_nothing(site: Sites) -> None:
    theirs, ours = site(b"theirs"), site(b"ours")
    token = theirs.get("/").text
    cookie = theirs.get_cookie("session")
    assert cookie is not None

    ours.set_cookie("session", cookie.value)

    assert ours.get("/").text not in ("", token)


@pytest.mark.parametrize("cookie", ["session", "session=", "session=.", "session=x.y", "a=\xff"])
def test_a_broken_cookie_gets_a_new_session(site: Sites, cookie: str) -> None:
    browser = site(b"key")

    answer = browser.get("/", environ_overrides={"HTTP_COOKIE": cookie})

    assert len(answer.text) > 20
