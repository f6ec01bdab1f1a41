"""Receive and verify: nothing is asked of anybody, nothing is stored."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from finch_middleware import ConfigurationError, FinchConnect
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.required import absent
from tests.servers.running import Absent, Reached, running
from tests.site import CALLBACK, Browser, Site
from tests.story.oracle import code_of, nothing_stored, tokens_of


def test_receive_without_a_binding_tells_apart_what_can_be_told(
    fake: FakeFinch, make_site: Callable[..., Site], site: Site, clock: Clock
) -> None:
    other_config = make_site(client_id="another-client", require_state=True)
    other_user = make_site(customer_of=lambda request: "umbrella")
    mine = Browser(site)
    callback = fake.allow(mine.location())
    stranger = Browser(site)
    stranger.location("umbrella")

    answers = {
        "no cookie": Browser(site).get(callback),
        "another browser": stranger.get(callback),
        "another user": Browser(other_user, dict(mine.cookies)).get(callback),
        "another client": Browser(other_config, dict(mine.cookies)).get(callback),
    }
    clock.move(timedelta(hours=1, seconds=61))
    answers["expired"] = mine.get(callback)

    assert {each.status for each in answers.values()} == {400}
    assert [each.reason for each in site.events] == ["no_ticket", "state_mismatch", "expired"]
    assert [each.reason for each in other_user.events] == ["other_customer"]
    # By design: the client is bound into the seal, so its cookie is as unreadable as noise.
    assert [each.reason for each in other_config.events] == ["no_ticket"]
    assert fake.ledger.calls("token") == 0
    assert nothing_stored(site)


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
        line.settimeout(10)
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
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


#: What a server that reads the body itself makes of it: nothing at all, or a body of no length.
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
    before = reached.fake.ledger.calls("token")

    status = _posted(reached.origin, browser.cookies, name)
    alive = browser.request("HEAD", CALLBACK).status

    assert status in _BY_SERVER.get(name, {BODIES[name][2]})
    assert alive == 200
    assert reached.fake.ledger.calls("token") == before


@pytest.mark.parametrize("name", _ON_SERVERS)
def test_receive_bad_body_is_refused_by_the_standard_librarys_server(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    browser.location()
    with make_server("127.0.0.1", 0, site.app, handler_class=_Silent) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()

        status = _posted(f"http://localhost:{server.server_port}", browser.cookies, name)
        serving.join()

    assert status == BODIES[name][2]
    assert fake.ledger.calls("token") == 0


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Input:
    """A `wsgi.input` that breaks, and remembers how much was asked of it."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self._answer = answer
        self.asked = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "a server's stream may block past its end"
        self.asked += size
        return self._answer(size)


def _raise(size: int) -> bytes:
    raise OSError("the line is dead")


@pytest.mark.parametrize("answer", [_raise, lambda size: b""], ids=["raises", "ends"])
def test_receive_broken_input_is_refused_and_never_read_past_its_length(
    fake: FakeFinch, site: Site, browser: Browser, answer: Callable[[int], bytes]
) -> None:
    environ: dict[str, Any] = EnvironBuilder(
        path=CALLBACK, method="POST", headers=[("Sec-Fetch-Site", "same-origin")]
    ).get_environ()
    stream = Input(answer)
    environ.update(
        {"wsgi.input": stream, "CONTENT_LENGTH": "40", "CONTENT_TYPE": "application/json"}
    )

    _, status, _ = run_wsgi_app(site.app, environ)

    assert status.startswith("400")
    assert stream.asked <= 40
    assert [each.reason for each in site.events] == ["body"]


def _drip(size: int) -> bytes:
    time.sleep(0.2)
    return b" "


def test_receive_broken_input_that_drips_is_given_up_within_five_seconds(
    fake: FakeFinch, site: Site
) -> None:
    environ: dict[str, Any] = EnvironBuilder(
        path=CALLBACK, method="POST", headers=[("Sec-Fetch-Site", "same-origin")]
    ).get_environ()
    environ.update(
        {
            "wsgi.input": Input(_drip),
            "CONTENT_LENGTH": "8000",
            "CONTENT_TYPE": "application/json",
        }
    )

    began = time.monotonic()
    _, status, _ = run_wsgi_app(site.app, environ)
    took = time.monotonic() - began

    assert status.startswith(("400", "408"))
    assert took < 5
    assert [each.reason for each in site.events] == ["body"]


@pytest.mark.parametrize("key", ["", "k1", "k1:not base64", "k1:c2hvcnQ="])
def test_receive_missing_key_ends_the_start(key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        FinchConnect(
            client_id="client",
            client_secret="secret",
            redirect_uri="http://localhost/finch/callback",
            products=["company"],
            storage="memory://",
            key=key,
        )

    assert "keygen" in str(refused.value)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)], ids=["on", "back"])
def test_receive_clock_jump_within_the_skew_or_in_the_exchange_harms_nobody(
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


def test_receive_clock_jump_does_not_lengthen_the_exchange(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    site = make_site(exchange_deadline=timedelta(seconds=0.4))
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.stall())

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        clock.move(-timedelta(hours=1))
    took = time.monotonic() - began

    assert answer.result().status == 502
    assert took < 3
    assert fake.ledger.presented(code_of(callback)) == 1
