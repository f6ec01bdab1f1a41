"""A slow or impatient client of the callback, and the other pages, which stay quick."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from urllib.parse import urlsplit

import pytest

from finch_middleware.testing.fake_finch import Behaviour
from tests.servers.application import BEGIN, CALLBACK
from tests.servers.running import SERVERS, Reached
from tests.site import NAVIGATION, SAME_ORIGIN_FETCH, Browser
from tests.waiting import wait_until

_PATIENCE_SECONDS = 60
#: More than each of the servers has threads.
_CONNECTIONS = 12
_OWN_PAGE = "Sec-Fetch-Site: same-origin"


def visitor(reached: Reached, cookies: dict[str, str] | None = None) -> Browser:
    """A browser with a copy of these cookies."""
    return Browser(reached, dict(cookies or {}))  # type: ignore[arg-type]  # all that it needs


def pages(reached: Reached) -> list[int]:
    """The status of three other pages."""
    return [visitor(reached).get("/").status for _ in range(3)]


@contextmanager
def half_bodies(reached: Reached, *headers: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent a whole head and half a body to the callback."""
    head = [f"POST {CALLBACK} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    sent = "\r\n".join([*head, *headers]) + '\r\n\r\n{"code": "'
    address = ("127.0.0.1", urlsplit(reached.origin).port or 0)
    with ExitStack() as stack:
        opened = (socket.create_connection(address, _PATIENCE_SECONDS) for _ in range(count))
        lines = [stack.enter_context(line) for line in opened]
        for line in lines:
            line.sendall(sent.encode())
        yield lines


# Cheroot itself waits ten seconds for the rest of a body that an application left unread.
@pytest.mark.parametrize("name", [name for name in SERVERS if name != "cheroot"])
def test_t42_half_bodies_without_a_ticket_keep_no_page_waiting(reached: Reached) -> None:
    visitor(reached).get(CALLBACK)  # The first one loads modules.

    # One that waited for such a body would not come within the browser's patience.
    with half_bodies(reached, _OWN_PAGE, "Content-Length: 400", count=_CONNECTIONS):
        statuses = pages(reached)

    assert statuses == [200] * 3


def status_of_half_a_body(reached: Reached, *, declared: str) -> int:
    """The status of a callback with a ticket, whose body does not end."""
    browser = visitor(reached)
    browser.request("POST", BEGIN, headers=SAME_ORIGIN_FETCH, body=b"")
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = [f"Cookie: {cookies}", _OWN_PAGE, f"Content-Length: {declared}"]
    with half_bodies(reached, *headers, count=1) as [line]:
        return int(line.recv(4096).split()[1])


some_servers = pytest.mark.parametrize("name", ["gunicorn-sync", "gunicorn-gthread", "uvicorn"])


@some_servers
def test_t42_half_a_body_with_a_ticket_is_given_up(
    started: Callable[..., Reached], name: str
) -> None:
    assert status_of_half_a_body(started(name, body_seconds=1), declared="400") == 400


@some_servers
def test_t42_a_body_that_is_too_long_is_refused_before_it_ends(reached: Reached) -> None:
    assert status_of_half_a_body(reached, declared="99999999999999999999") == 413


# Gunicorn's sync worker has one thread, which asks Finch.
@pytest.mark.parametrize("name", [name for name in SERVERS if name != "gunicorn-sync"])
def test_t43_five_loads_of_one_return_leave_threads_for_the_other_pages(reached: Reached) -> None:
    browser = visitor(reached)
    pressed = {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}
    callback = reached.fake.allow(
        browser.request("POST", BEGIN, headers=pressed, body=b"").location
    )
    calls, gate = reached.fake.ledger.calls("token"), Event()
    reached.fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(5) as pool:
        loads = [pool.submit(visitor(reached, browser.cookies).get, callback) for _ in range(5)]
        # One asks Finch and two at most wait for it.
        wait_until(lambda: sum(load.done() for load in loads) >= 2)
        statuses = pages(reached)
        # Without a thread, they would have come after the exchange had been given up.
        gate.set()
    reloaded = browser.get(callback)

    assert statuses == [200] * 3
    assert {load.result().status for load in loads} == {202, 303}
    assert reloaded.location.startswith("/?finch=connected")
    assert reached.fake.ledger.calls("token") == calls + 1
