"""Kept connections: for how long they are used, and for whom."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from collections import Counter
from types import FrameType

import pytest

from finch_middleware.finch import transport
from finch_middleware.finch.transport import FinchResponse, Transport
from tests.asking import StillClock, answered, ask, trusting
from tests.odd_server import Line, OddServer, answering, authority, once, raw_answer
from tests.processes import forked, succeeds

SCHEMES = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@SCHEMES
@pytest.mark.usefixtures("kept_long")
@pytest.mark.parametrize(
    "raw",
    [
        raw_answer(b"{}"),
        raw_answer(b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        raw_answer(b""),
    ],
    ids=["length", "chunked", "empty"],
)
def test_a_connection_is_kept_for_the_next_request(raw: bytes, tls: bool) -> None:
    client = trusting()
    with OddServer(answering(raw), tls=authority().server() if tls else None) as server:
        for _ in range(3):
            answered(ask(server, transport=client))

        assert (server.accepted, len(server.requests)) == (1, 3)


@pytest.mark.usefixtures("kept_long")
def test_a_request_on_a_kept_connection_takes_few_calls_and_leaves_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, calls, sent = trusting(), list[str](), list[int]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    send = transport._TimedSocket.sendall
    monkeypatch.setattr(
        transport._TimedSocket,
        "sendall",
        lambda sock, data: (sent.append(len(data)), send(sock, data))[1],
    )
    with OddServer(answering(raw_answer(b"{}"))) as server:
        answered(ask(server, transport=client))
        sys.setprofile(note)
        try:
            ask(server, transport=client)
        finally:
            sys.setprofile(None)

        assert sent == [len(request) for request in server.requests]
    # With requests' own request and response there were 600; http.client by hand makes 100.
    assert len(calls) < 170, Counter(calls)


def test_a_connection_is_not_used_after_four_idle_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, client = StillClock(monkeypatch), Transport()
    with OddServer(answering(raw_answer(b"{}"))) as server:
        accepted = []
        for idle_seconds in (0, 3.9, 4.1):
            clock.move(idle_seconds)
            ask(server, transport=client)
            accepted.append(server.accepted)

    assert accepted == [1, 1, 2]


@SCHEMES
def test_a_kept_connection_that_the_server_closed_is_replaced(tls: bool) -> None:
    client, behave = trusting(), once(raw_answer(b"{}"))
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        for _ in range(3):
            answered(ask(server, transport=client))
            server.end_conversations()

        assert (server.accepted, len(server.requests)) == (3, 3)


@SCHEMES
def test_surplus_bytes_are_not_taken_for_the_next_response(tls: bool) -> None:
    client = trusting()
    # Long enough that under TLS a part of it is decrypted and yet unread.
    surplus = raw_answer(b"another's" + b" " * 12_000)
    behave = answering(raw_answer(b"{}") + surplus, raw_answer(b"mine"))
    with OddServer(behave, tls=authority().server() if tls else None) as server:
        answered(ask(server, transport=client))

        result = answered(ask(server, transport=client))

        assert server.accepted == 2
    assert result.body == b"mine"


def test_a_connection_whose_response_was_not_read_is_not_kept() -> None:
    client = Transport()
    with OddServer(answering(raw_answer(b"away", status="302 Found"))) as server:
        ask(server, transport=client)
        ask(server, transport=client)

        assert server.accepted == 2


@pytest.mark.usefixtures("kept_long")
def test_each_of_many_threads_gets_its_own_response() -> None:
    client = Transport()
    wrong: list[object] = []

    def echo(line: Line) -> None:
        while request := line.request():
            line.send(raw_answer(request.partition(b"\r\n\r\n")[2]))

    def work(number: int) -> None:
        for turn in range(20):
            body = b"%d/%d" % (number, turn)
            result = ask(server, transport=client, body=body)
            if not isinstance(result, FinchResponse) or result.body != body:
                wrong.append((body, result))

    with OddServer(echo) as server:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert server.accepted <= 16
    assert wrong == []


@pytest.mark.usefixtures("kept_long")
def test_a_fork_shares_neither_connection_nor_context() -> None:
    client = trusting()
    with OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server:
        answered(ask(server, transport=client))
        inherited = client._adapter[os.getpid()]

        ended = succeeds(
            forked(
                lambda: (
                    isinstance(ask(server, transport=client), FinchResponse)
                    and client._adapter[os.getpid()] is not inherited
                )
            )
        )
        answered(ask(server, transport=client))

        assert ended
        assert server.accepted == 2


def test_a_fork_while_the_context_is_being_made_does_not_hang_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Transport()
    begun, done = threading.Event(), threading.Event()
    make = transport._tls_context

    def make_slowly(ca_file: str) -> ssl.SSLContext:
        begun.set()
        done.wait()
        return make(ca_file)

    with OddServer(answering(raw_answer(b"{}"))) as server:
        monkeypatch.setattr(transport, "_tls_context", make_slowly)
        other = threading.Thread(target=lambda: ask(server, transport=client))
        other.start()
        begun.wait()
        monkeypatch.setattr(transport, "_tls_context", make)

        child = forked(lambda: isinstance(ask(server, transport=client), FinchResponse))
        ended = succeeds(child)
        done.set()
        other.join()

    assert ended
