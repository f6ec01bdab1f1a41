"""T19: whatever a server does, the call ends with its deadline."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from finch_middleware.finch.transport import Transport
from finch_middleware.secret import Secret
from tests.asking import (
    SECOND,
    TIMEOUT,
    UNREACHABLE,
    StillClock,
    answered,
    ask,
    began,
    first,
    over_tls,
    responded,
    trusting,
)
from tests.odd_server import (
    Behaviour,
    Line,
    OddServer,
    answering,
    authority,
    once,
    raw_answer,
    stall,
)

CHUNKED = raw_answer(b"1\r\nx\r\n", "Transfer-Encoding: chunked")


def drip(start: bytes, piece: bytes) -> Behaviour:
    """Sends *start*, then *piece* again and again, one byte at a time."""
    return once(start, then=lambda line: line.drip(piece * 5000))


BEFORE_A_STATUS: dict[str, Behaviour] = {
    "accept only": stall,
    "no response": once(b"", then=stall),
    "half a header": once(b"HTTP/1.1 200 OK\r\nContent-Ty", then=stall),
    "status line drips": drip(b"HTTP/1.1 200 ", b"O"),
    "header drips": drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "100 drips": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 drips": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}
WITHIN_A_BODY: dict[str, Behaviour] = {
    "half a body": once(raw_answer(b"{", "Content-Length: 100"), then=stall),
    "body drips": drip(raw_answer(b"", "Content-Length: 5000"), b"x"),
    "chunks drip": drip(CHUNKED, b"1\r\nx\r\n"),
    "endless body drips": drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    "trailers drip": drip(CHUNKED + b"0\r\n", b"A: b\r\n"),
}
SCHEMES = pytest.mark.parametrize(
    "tls", [False, pytest.param(True, marks=pytest.mark.full)], ids=["plain", "tls"]
)


@SCHEMES
@pytest.mark.parametrize("behave", BEFORE_A_STATUS.values(), ids=list(BEFORE_A_STATUS))
def test_t19_a_response_that_does_not_come_ends_with_the_deadline(
    behave: Behaviour, tls: bool
) -> None:
    client = trusting()
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        result = first(lambda within: ask(server, transport=client, within=within), reached=began)

    assert result == TIMEOUT


@SCHEMES
@pytest.mark.parametrize("behave", WITHIN_A_BODY.values(), ids=list(WITHIN_A_BODY))
def test_t19_a_body_that_does_not_end_ends_with_the_deadline_and_keeps_its_status(
    behave: Behaviour, tls: bool
) -> None:
    client = trusting()
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        result = first(
            lambda within: ask(server, transport=client, within=within), reached=responded
        )

    result = answered(result)
    assert (result.status, result.body, result.fault) == (200, None, "timeout")


def read_slowly(line: Line) -> None:
    while not line.wait(0.02):
        line.sock.recv(20_000)


@pytest.mark.parametrize(
    ("behave", "tls"),
    [(stall, False), (stall, True), (read_slowly, True)],
    ids=["stops", "stops-tls", "slows-tls"],
)
def test_t19_a_server_that_hardly_reads_ends_with_the_deadline(
    behave: Behaviour, tls: bool
) -> None:
    client, body = trusting(), b"x" * 20_000_000
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        result = first(
            lambda within: ask(server, transport=client, within=within, body=body), reached=began
        )

    assert result == TIMEOUT


def drip_handshake(line: Line) -> None:
    line.sock.recv(5)
    line.drip(b"\x16\x03\x03\x40\x00" + b"\x00" * 5000)


@pytest.mark.parametrize("behave", [stall, drip_handshake])
def test_t19_a_tls_handshake_that_does_not_end_ends_with_the_deadline(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        assert ask(over_tls(server), within=0.2 * SECOND) == UNREACHABLE


@contextlib.contextmanager
def full_address(host: str) -> Iterator[tuple[str, int]]:
    """An address on which connections are neither accepted nor refused."""
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind((host, 0))
        full.listen(0)
        opened.enter_context(socket.create_connection(full.getsockname()))
        select.select([full], [], [])  # it waits to be accepted, and no other may
        yield full.getsockname()


def test_t19_a_connect_that_is_not_accepted_ends_with_the_deadline() -> None:
    with OddServer(stall) as server, full_address("127.0.0.1") as (_, port):
        server.url = f"http://127.0.0.1:{port}"

        assert ask(server, within=0.2 * SECOND) == UNREACHABLE


def test_an_address_that_never_responds_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OddServer(answering(raw_answer(b"{}"))) as server, full_address("127.0.0.2") as full:
        family = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*family, address) for address in (full, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)

        result = first(lambda within: ask(server, within=within), reached=responded)

    assert answered(result).body == b"{}"


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    with OddServer(answering(raw_answer(b"{}"))) as server:
        assert ask(server, within=timedelta(0)) == UNREACHABLE
        assert server.accepted == 0


def test_a_proxy_that_drips_ends_with_the_deadline_and_nothing_was_sent() -> None:
    with (
        OddServer(stall, tls=authority().server()) as server,
        OddServer(drip(b"HTTP/1.1 200 ", b"x")) as proxy,
    ):
        client = Transport(proxy=Secret(proxy.url))

        assert ask(server, transport=client, within=0.2 * SECOND) == UNREACHABLE


def test_a_handshake_behind_a_slow_proxy_gets_only_the_remaining_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = StillClock(monkeypatch)

    def behave(line: Line) -> None:
        line.request()
        clock.move(99.9)
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        line.wait()

    with OddServer(stall, tls=authority().server()) as server, OddServer(behave) as proxy:
        client = Transport(proxy=Secret(proxy.url))
        start = time.perf_counter()

        result = ask(server, transport=client, within=100 * SECOND)

        took = time.perf_counter() - start
    assert result == UNREACHABLE
    assert took < 50
