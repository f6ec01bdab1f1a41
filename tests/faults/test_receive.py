"""Receive and verify: a bad request reaches neither Finch nor the storage."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.required import absent
from tests.servers.application import BEGIN
from tests.servers.running import Absent, Reached, running
from tests.site import CALLBACK, SAME_ORIGIN_FETCH, Browser, Site
from tests.story.oracle import tokens_of

BODIES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no length": ({"Content-Type": "application/json"}, b"", 411),
    "chunked": (
        {"Content-Type": "application/json", "Transfer-Encoding": "chunked"},
        b"2\r\n{}\r\n0\r\n\r\n",
        411,
    ),
    "too large": ({"Content-Type": "application/json", "Content-Length": "8193"}, b"", 413),
    "not JSON": ({"Content-Type": "application/json", "Content-Length": "2"}, b"<>", 400),
    "another kind": ({"Content-Type": "text/plain", "Content-Length": "2"}, b"ab", 400),
    "short": ({"Content-Type": "application/json", "Content-Length": "90"}, b'{"code": "', 400),
}


def _posted(origin: str, cookies: dict[str, str], name: str) -> int | None:
    """The status of a POST that no client library would send; None: closed without an answer."""
    headers, body, _ = BODIES[name]
    cookie = "; ".join(f"{each}={value}" for each, value in cookies.items())
    head = {"Host": "localhost", "Cookie": cookie, "Sec-Fetch-Site": "same-origin", **headers}
    lines = [f"POST {CALLBACK} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items())]
    with socket.create_connection(("127.0.0.1", urlsplit(origin).port or 0)) as line:
        line.settimeout(60)
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        with suppress(OSError):  # it has responded and closed before
            line.shutdown(socket.SHUT_WR)
        answer = line.recv(4096)
    return int(answer.split()[1]) if answer else None


@pytest.mark.parametrize("name", BODIES)
def test_receive_bad_body_is_refused(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    browser.location()

    status = _posted(site.origin, browser.cookies, name)

    assert status == BODIES[name][2]
    assert fake.ledger.calls("token") == 0


@pytest.fixture(scope="module", params=["gunicorn-sync", "gunicorn-gthread", "waitress"])
def reached(request: pytest.FixtureRequest) -> Iterator[Reached]:
    """A server as its users start it."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(running(request.param))
        except Absent as missing:
            absent("servers", str(missing))


#: Where a server reads the body before us, the statuses that it may send.
_BY_SERVER: dict[str, set[int | None]] = {
    "no length": {411, 400},
    "short": {400, None},
    # Its body never comes; one that does is answered by every server in tests/servers.
    "too large": {413, None},
}
_ON_SERVERS = [name for name in BODIES if name != "chunked"]


@pytest.mark.parametrize("name", _ON_SERVERS)
def test_receive_bad_body_is_refused_by_every_server(reached: Reached, name: str) -> None:
    browser = Browser(cast(Site, reached))
    browser.request("POST", BEGIN, headers=SAME_ORIGIN_FETCH, body=b"")
    before = reached.fake.ledger.calls("token")

    status = _posted(reached.origin, browser.cookies, name)
    alive = browser.request("HEAD", CALLBACK).status

    assert status in _BY_SERVER.get(name, {BODIES[name][2]})
    assert alive == 200
    assert reached.fake.ledger.calls("token") == before


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)], ids=["on", "back"])
def test_receive_clock_jump_during_the_exchange_keeps_the_token(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock, jump: timedelta
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        clock.move(jump)
        gate.set()

    assert "finch=connected" in answer.result().location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
