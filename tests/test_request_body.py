"""How much of a callback's body is read, and for how long."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from finch_middleware.errors import ReturnFault
from finch_middleware.web import body as body_module
from finch_middleware.web.body import BODY_LIMIT_BYTES, BODY_SECONDS
from finch_middleware.web.request import CallbackRequest
from tests.site import CALLBACK, Browser, MakeSite, Site
from tests.test_request import (
    FORM,
    JSON,
    MAKERS,
    QUERY,
    Broken,
    Input,
    Maker,
    an_environ,
    every_framework,
    form,
    refusal,
)


@every_framework
@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        *(
            (each, "length_required")
            for each in (None, "", "x", "-1", "+5", "1.5", "1e3", " 5", "٣")
        ),
        *((str(each), "too_large") for each in (BODY_LIMIT_BYTES + 1, 10**9, 10**30)),
    ],
)
def test_a_post_without_a_length_or_over_the_limit_is_refused_unread(
    make: Maker, declared: str | None, reason: str
) -> None:
    environ = form(CONTENT_LENGTH=declared)

    assert refusal(make(environ)) == reason
    assert environ["wsgi.input"].given == 0


@every_framework
def test_a_post_of_just_the_limit_is_read(make: Maker) -> None:
    body = b"x=".ljust(BODY_LIMIT_BYTES, b"a")

    assert CallbackRequest.of(make(an_environ(body, kind=FORM))).body == body


@every_framework
@pytest.mark.parametrize("kind", [FORM, JSON])
@pytest.mark.parametrize(
    "stream",
    [*(functools.partial(Input, QUERY.encode()[:n]) for n in (0, 1, len(QUERY) - 1)), Broken],
    ids=["nothing", "one byte", "one byte less", "raises"],
)
def test_a_body_that_ends_early_is_refused(
    make: Maker, kind: str, stream: Callable[[], Input]
) -> None:
    assert refusal(make(form(CONTENT_TYPE=kind) | {"wsgi.input": stream()})) == "body"


@pytest.mark.parametrize(
    ("make", "at_once"),
    [*((make, 1 << 20) for make in MAKERS.values()), (MAKERS["environ"], 7)],
    ids=[*MAKERS, "in pieces"],
)
def test_the_declared_body_is_read_and_no_more(make: Maker, at_once: int) -> None:
    stream = Input(QUERY.encode() + b"GET /the-next-request HTTP/1.1", at_once=at_once)

    request = CallbackRequest.of(make(form() | {"wsgi.input": stream}))

    assert request.body == QUERY.encode()
    assert stream.given == len(QUERY)


class Slow(Input):
    """A wsgi.input into which a byte drips each second, and that waits for all it was asked for."""

    seconds = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        self.seconds += size
        return super().read(size)


@every_framework
def test_a_body_that_drips_is_given_up_and_refused(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Slow(QUERY.encode())
    clock = SimpleNamespace(monotonic=lambda: stream.seconds)
    monkeypatch.setattr(body_module, "time", clock)

    reason = refusal(make(form() | {"wsgi.input": stream}))

    assert reason == "body"
    assert BODY_SECONDS <= stream.given < len(QUERY)


def test_a_page_that_drips_its_body_is_answered_before_it_ends(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.2)
    browser.location()
    [(name, value)] = browser.cookies.items()
    lines = [
        f"POST {CALLBACK} HTTP/1.1",
        f"Content-Type: {FORM}",
        "Content-Length: 8000",
        "Sec-Fetch-Site: same-origin",
        f"Cookie: {name}={value}",
    ]
    head = "\r\n".join(lines) + "\r\n\r\n"
    dripped = 0

    with socket.create_connection(("127.0.0.1", urlsplit(site.origin).port or 0)) as line:
        line.sendall(head.encode())
        while not select.select([line], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):  # the site may have closed it at this moment
                line.sendall(b"x")
            dripped += 1
        answer = line.recv(4096)

    assert answer.split()[1] == b"400"
    assert [event.reason for event in site.named("finch.callback.rejected")] == ["body"]
    assert dripped < 8000


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("no_ticket", {"HTTP_COOKIE": ""}),
        ("cross_site", {"HTTP_SEC_FETCH_SITE": "cross-site"}),
        ("cross_site", {"HTTP_SEC_FETCH_SITE": None, "HTTP_ORIGIN": "https://evil.example"}),
    ],
    ids=["no ticket", "cross-site", "foreign origin"],
)
def test_t42_a_strangers_post_is_refused_before_a_byte_of_its_body_is_read(
    site: Site, browser: Browser, reason: str, changes: dict[str, str | None]
) -> None:
    browser.location()
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    ours = {"HTTP_COOKIE": cookies, "HTTP_SEC_FETCH_SITE": "same-origin"}
    environ = form(**{**ours, **changes})

    site.finch.callback(environ)

    assert [event.reason for event in site.named("finch.callback.rejected")] == [reason]
    assert environ["wsgi.input"].given == 0


def test_the_body_is_read_for_a_login_that_opened_connect_without_a_ticket(
    make_site: MakeSite,
) -> None:
    site = make_site(opened_by="application", customer_of=lambda request: "acme")
    environ = form(HTTP_SEC_FETCH_SITE="same-origin")

    site.finch.callback(environ)

    assert environ["wsgi.input"].given == len(QUERY)


def test_gunicorn_waits_neither_in_a_read_nor_for_the_rest_of_a_refused_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.05)
    servers, clients = socket.socketpair()
    with servers, clients, servers.makefile("rb", buffering=0) as stream:
        clients.sendall(QUERY[:9].encode())
        request = CallbackRequest.of(form(**{"wsgi.input": stream, "gunicorn.socket": servers}))

        with pytest.raises(ReturnFault):
            _ = request.body
        request.abandon_body()

        assert servers.recv(1) == b""


class Gathering(Input):
    """A wsgi.input that waits for the whole body, whatever it was asked for."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(b"")
        self._line = line

    def read(self, size: int | None = -1) -> bytes:
        return self._line.makefile("rb").read(len(QUERY))


def test_gunicorn_does_not_wait_for_a_body_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.1)
    servers, clients = socket.socketpair()
    refused = threading.Event()

    def drip() -> None:
        for byte in QUERY[:-1].encode():
            if refused.wait(0.1):
                return
            clients.send(bytes([byte]))
        refused.wait(60)
        clients.send(QUERY[-1:].encode())  # what waited for the whole body has it now

    with servers, clients, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip)
        environ = form(**{"wsgi.input": Gathering(servers), "gunicorn.socket": servers})
        try:
            assert refusal(environ) == "body"
        finally:
            refused.set()
            dripping.exception()


def test_the_body_is_read_once() -> None:
    environ = form()
    request = CallbackRequest.of(environ)

    first, second = request.body, request.body

    assert first == second == QUERY.encode()
    assert environ["wsgi.input"].given == len(QUERY)
