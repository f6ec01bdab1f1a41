"""However a server stalls, the call ends with its deadline."""

from __future__ import annotations

import socket
import time
from datetime import timedelta

import pytest

from tests.asking import (
    SECOND,
    SLACK_SECONDS,
    TIMEOUT,
    UNREACHABLE,
    answered,
    ask,
    trusting,
)
from tests.odd_server import Behaviour, Line, OddServer, answering, authority, raw_answer, stall


def stall_after_request(line: Line) -> None:
    line.request()
    line.wait()


def stall_in_headers(line: Line) -> None:
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    line.wait()


def drip_status_line(line: Line) -> None:
    line.request()
    line.drip(b"HTTP/1.1 200 " + b"O" * 5000)


def drip_headers(line: Line) -> None:
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    line.drip(b"x" * 5000)


def repeat_continue(line: Line) -> None:
    line.request()
    line.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 500, every=0.005)


def repeat_early_hints(line: Line) -> None:
    line.request()
    line.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500)


def stall_in_body(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"{", "Content-Length: 100"))
    line.wait()


def drip_body(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"", "Content-Length: 5000"))
    line.drip(b"x" * 5000)


def drip_chunks(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"", "Transfer-Encoding: chunked"))
    line.drip(b"1\r\nx\r\n" * 5000)


def drip_endless_body(line: Line) -> None:
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    line.drip(b"x" * 5000)


def drip_trailers(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"1\r\nx\r\n0\r\n", "Transfer-Encoding: chunked"))
    line.drip(b"A: b\r\n" * 5000)


BEFORE_AN_ANSWER = [
    stall,
    stall_after_request,
    stall_in_headers,
    drip_status_line,
    drip_headers,
    repeat_continue,
    repeat_early_hints,
]
WITHIN_A_BODY = [stall_in_body, drip_body, drip_chunks, drip_endless_body, drip_trailers]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behave", BEFORE_AN_ANSWER, ids=lambda b: b.__name__)
def test_an_answer_that_does_not_come_ends_with_the_deadline(behave: Behaviour, tls: bool) -> None:
    client = trusting()
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        begun = time.monotonic()

        result = ask(server, transport=client, within=0.4 * SECOND)

        took = time.monotonic() - begun
    assert result == TIMEOUT
    assert 0.4 <= took <= 0.4 + SLACK_SECONDS


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behave", WITHIN_A_BODY, ids=lambda b: b.__name__)
def test_a_body_that_does_not_end_ends_with_the_deadline_and_keeps_its_status(
    behave: Behaviour, tls: bool
) -> None:
    client = trusting()
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        begun = time.monotonic()

        result = answered(ask(server, transport=client, within=0.4 * SECOND))

        took = time.monotonic() - begun
    assert (result.status, result.body, result.fault) == (200, None, "timeout")
    assert 0.4 <= took <= 0.4 + SLACK_SECONDS


def test_a_server_that_stops_reading_ends_with_the_deadline() -> None:
    with OddServer(stall) as server:
        begun = time.monotonic()

        result = ask(server, within=0.4 * SECOND, body=b"x" * 50_000_000)

        took = time.monotonic() - begun
    assert result == TIMEOUT
    assert took <= 0.4 + SLACK_SECONDS


def test_a_server_that_stops_reading_under_tls_ends_with_the_deadline() -> None:
    client = trusting()
    with OddServer(stall, tls=authority().server()) as server:
        begun = time.monotonic()

        result = ask(server, transport=client, within=0.6 * SECOND, body=b"x" * 50_000_000)

        took = time.monotonic() - begun
    assert result == TIMEOUT
    assert took <= 0.6 + SLACK_SECONDS


def test_a_server_that_reads_slowly_under_tls_ends_with_the_deadline() -> None:
    def behave(line: Line) -> None:
        while not line.wait(0.02):
            line.sock.recv(20_000)

    client = trusting()
    with OddServer(behave, tls=authority().server()) as server:
        begun = time.monotonic()

        result = ask(server, transport=client, within=0.6 * SECOND, body=b"x" * 50_000_000)

        took = time.monotonic() - begun
    assert result == TIMEOUT
    assert took <= 0.6 + SLACK_SECONDS


def test_a_stalled_tls_handshake_ends_with_the_deadline_and_nothing_was_sent() -> None:
    with OddServer(stall) as server:
        server.url = server.url.replace("http:", "https:")
        begun = time.monotonic()

        result = ask(server, within=0.4 * SECOND)

        took = time.monotonic() - begun
    assert result == UNREACHABLE
    assert 0.4 <= took <= 0.4 + SLACK_SECONDS


def test_a_tls_handshake_that_drips_ends_with_the_deadline() -> None:
    def behave(line: Line) -> None:
        line.sock.recv(5)
        line.drip(b"\x16\x03\x03\x40\x00" + b"\x00" * 5000)

    with OddServer(behave) as server:
        server.url = server.url.replace("http:", "https:")
        begun = time.monotonic()

        result = ask(server, within=0.4 * SECOND)

        took = time.monotonic() - begun
    assert result == UNREACHABLE
    assert took <= 0.4 + SLACK_SECONDS


def test_a_connect_that_is_not_accepted_ends_with_the_deadline_and_nothing_was_sent() -> None:
    with OddServer(stall) as server, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        server.url = f"http://127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        begun = time.monotonic()

        result = ask(server, within=0.4 * SECOND)

        took = time.monotonic() - begun
        for client in waiting:
            client.close()
    assert result == UNREACHABLE
    assert 0.4 <= took <= 0.4 + SLACK_SECONDS


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    with OddServer(answering(raw_answer(b"{}"))) as server:
        result = ask(server, within=timedelta(0))

        assert result == UNREACHABLE
        assert server.accepted == 0


def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OddServer(answering(raw_answer(b"{}"))) as server, socket.socket() as full:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        addresses = [full.getsockname(), ("127.0.0.1", server.port)]
        family = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*family, address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)

        result = ask(server, within=SECOND)

        for client in waiting:
            client.close()
    assert answered(result).body == b"{}"
