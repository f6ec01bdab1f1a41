"""One try of a request: whether it had begun, and what of an answer is read."""

from __future__ import annotations

import gc
import select
import socket
import time
import tracemalloc
from datetime import timedelta

import pytest

from finch_middleware.finch import transport
from finch_middleware.finch.transport import Deadline, FinchResponse, NoResponse, Request, Transport
from tests.asking import (
    RESET,
    SECOND,
    TOO_LARGE,
    UNREACHABLE,
    answered,
    ask,
)
from tests.odd_server import Behaviour, Line, OddServer, answering, authority, raw_answer, stall

# -- whether it had begun --


def test_a_refused_connection_is_unreachable() -> None:
    with OddServer(stall) as server:
        pass

    result = ask(server)

    assert result == UNREACHABLE


def test_an_unknown_host_is_unreachable() -> None:
    with OddServer(stall) as server:
        result = ask(server, host="finch.invalid")

    assert result == UNREACHABLE


def test_an_unreadable_request_is_not_sent() -> None:
    with OddServer(answering(raw_answer(b"{}"))) as server:
        request = Request(method="GET", url=server.url, headers={"Authorization": "a\r\nb"})

        result = Transport().send(request, deadline=Deadline(SECOND))

        assert result == UNREACHABLE
        assert server.received_bytes == 0


def test_plain_http_on_a_tls_port_began_and_broke() -> None:
    with OddServer(stall, tls=authority().server()) as server:
        server.url = server.url.replace("https:", "http:")

        result = ask(server)

    assert isinstance(result, NoResponse)
    assert result.began


def close_after_request(line: Line) -> None:
    line.request()


def reset_after_request(line: Line) -> None:
    line.request()
    line.reset()


def garbage(line: Line) -> None:
    line.request()
    line.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def lengths_that_differ(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"{}", "Content-Length: 2", "Content-Length: 3"))


def end_in_headers(line: Line) -> None:
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Type: appl")


def header_without_colon(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"{}", "canary-token, where a header should be"))


@pytest.mark.parametrize(
    "behave",
    [
        close_after_request,
        reset_after_request,
        garbage,
        lengths_that_differ,
        header_without_colon,
    ],
    ids=lambda b: b.__name__,
)
def test_a_connection_that_breaks_after_the_first_byte_had_begun(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        result = ask(server)

        assert len(server.requests) == 1
    assert result == RESET


def test_an_answer_given_before_the_request_was_read_is_read() -> None:
    def behave(line: Line) -> None:
        line.sock.recv(10)
        line.send(raw_answer(b"{}", "Connection: close", status="413 Too Large"))
        line.sock.shutdown(socket.SHUT_WR)
        line.wait(0.3)

    with OddServer(behave) as server:
        result = answered(ask(server))

    assert (result.status, result.body) == (413, b"{}")


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nNo colon here\r\n\r\n"
INTERIM += b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_interim_answers_before_the_one_that_counts_are_passed_over() -> None:
    final = b"HTTP/1.1 100 Continue\r\n\r\n" + raw_answer(b'{"a": 1}')
    with OddServer(answering(INTERIM + final)) as server:
        client = Transport()
        results = [answered(ask(server, transport=client)) for _ in range(2)]

        assert server.accepted == 1
    assert [(each.status, each.body) for each in results] == [(200, b'{"a": 1}')] * 2
    assert results[0].headers["Content-Length"] == "8"


def switch_protocols(line: Line) -> None:
    line.request()
    line.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + raw_answer(b"{}"))


def interim_alone(line: Line) -> None:
    line.request()
    line.send(INTERIM)


def interim_without_end(line: Line) -> None:
    line.request()
    while not line.server.stopping.is_set():
        line.send(INTERIM)


def test_endless_interim_answers_are_cut_off() -> None:
    with OddServer(interim_without_end) as server:
        result = ask(server)

    assert result == TOO_LARGE


@pytest.mark.parametrize("behave", [switch_protocols, interim_alone], ids=lambda b: b.__name__)
def test_what_never_comes_to_a_final_answer_had_begun(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        result = ask(server)

        assert len(server.requests) == 1
    assert result == RESET


def short_body(line: Line) -> None:
    line.request()
    line.send(raw_answer(b'{"a": 1}', "Content-Length: 100"))


def broken_chunk(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"zz\r\n{}", "Transfer-Encoding: chunked"))


def reset_in_body(line: Line) -> None:
    line.request()
    line.send(raw_answer(b"{", "Content-Length: 100"))
    time.sleep(0.1)
    line.reset()


@pytest.mark.parametrize(
    "behave", [short_body, broken_chunk, reset_in_body], ids=lambda b: b.__name__
)
def test_a_body_that_breaks_keeps_its_status(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        result = answered(ask(server))

    assert (result.status, result.body, result.fault) == (200, None, "reset")


# -- what is read --


def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b"x" * transport.BODY_LIMIT_BYTES
    with OddServer(answering(raw_answer(body))) as server:
        result = answered(ask(server))

    assert result.body == body


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_over_the_limit_is_refused(framing: str) -> None:
    body = b"x" * (transport.BODY_LIMIT_BYTES + 1)
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    raw = {
        "length": raw_answer(body),
        "chunked": raw_answer(chunked, "Transfer-Encoding: chunked"),
        "close": b"HTTP/1.1 200 OK\r\n\r\n" + body,
    }[framing]

    def behave(line: Line) -> None:
        line.request()
        line.send(raw)

    with OddServer(behave) as server:
        result = answered(ask(server))

    assert (result.body, result.fault) == (None, "too_large")


@pytest.mark.parametrize("framing", ["Content-Length: 1073741824", "Connection: close"])
def test_a_body_of_a_gibibyte_is_neither_read_nor_kept(framing: str) -> None:
    sent = 0

    def behave(line: Line) -> None:
        nonlocal sent
        line.request()
        line.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for _ in range(1024):
            line.send(b"x" * 2**20)
            sent += 2**20

    with OddServer(behave) as server:
        ask(server)
        tracemalloc.start()
        result = answered(ask(server))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert result.fault == "too_large"
    # What is in flight fills the kernel's buffers, and is the server's own megabyte here.
    assert sent < 32 * 2**20
    assert peak_bytes < 4 * 2**20


def test_endless_headers_are_cut_off() -> None:
    def behave(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100_000):
            line.send(b"X: " + b"x" * 60_000 + b"\r\n")

    with OddServer(behave) as server:
        result = ask(server)

    assert result == TOO_LARGE


def test_endless_trailers_are_cut_off() -> None:
    def behave(line: Line) -> None:
        line.request()
        line.send(raw_answer(b"2\r\n{}\r\n0\r\n", "Transfer-Encoding: chunked"))
        while not line.server.stopping.is_set():
            line.send(b"X: " + b"x" * 60_000 + b"\r\n")

    with OddServer(behave) as server:
        begun = time.monotonic()

        result = answered(ask(server))

        took = time.monotonic() - begun
    assert result.fault == "too_large"
    assert took < 2


def test_a_body_that_is_announced_as_too_large_is_not_waited_for() -> None:
    def behave(line: Line) -> None:
        line.request()
        line.send(raw_answer(b"", "Content-Length: 1073741824"))
        line.wait()

    with OddServer(behave) as server:
        begun = time.monotonic()

        result = answered(ask(server))

        took = time.monotonic() - begun
    assert result.fault == "too_large"
    assert took < 2


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_an_encoded_body_is_refused(coding: str) -> None:
    with OddServer(answering(raw_answer(b"{}", f"Content-Encoding: {coding}"))) as server:
        result = answered(ask(server))

    assert (result.body, result.fault) == (None, "encoded")


def test_a_body_encoded_as_identity_is_read() -> None:
    with OddServer(answering(raw_answer(b"{}", "Content-Encoding: Identity"))) as server:
        result = answered(ask(server))

    assert result.body == b"{}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with OddServer(answering(raw_answer(b"{}"))) as target:
        redirect = raw_answer(b"", f"Location: {target.url}/x", status=f"{status} Unavailable")
        with OddServer(answering(redirect)) as server:
            result = answered(ask(server))

            assert len(server.requests) == 1
        assert (target.accepted, target.received_bytes) == (0, 0)
    assert (result.status, result.body) == (status, None)


def test_the_body_of_a_servers_own_error_is_not_waited_for() -> None:
    def behave(line: Line) -> None:
        line.request()
        line.send(raw_answer(b"", "Content-Length: 5", "Retry-After: 1", status="503 Busy"))
        line.wait()

    with OddServer(behave) as server:
        begun = time.monotonic()

        result = answered(ask(server))

        took = time.monotonic() - begun
    assert (result.status, result.headers["retry-after"]) == (503, "1")
    assert took < 1


# -- nothing shows --


def test_a_request_and_an_answer_do_not_show_what_they_carry() -> None:
    headers = {"Authorization": "canary"}
    request = Request(method="POST", url="https://x.example", headers=headers, body=b"canary")
    answer = FinchResponse(status=200, headers=headers, body=b"canary")

    shown = repr([request, answer])

    assert "canary" not in shown


def test_nothing_secret_is_logged_or_printed(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)
    caplog.set_level(0)
    with OddServer(header_without_colon) as server, OddServer(short_body) as other:
        for each in (server, other):
            ask(each, body=b'{"code": "canary-code"}')

    printed = capfd.readouterr()
    assert "Starting new HTTP connection" in caplog.text
    assert "canary" not in caplog.text + printed.out + printed.err


def test_a_line_that_breaks_before_the_handshake_is_not_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = transport._connect

    def connect_slowly(family: int, address: object, *, within_seconds: float) -> socket.socket:
        line = connect(family, address, within_seconds=within_seconds)
        select.select([line], [], [], 5)
        return line

    monkeypatch.setattr(transport, "_connect", connect_slowly)
    with OddServer(Line.reset) as server:
        server.url = server.url.replace("http:", "https:")

        result = ask(server)

    assert result == UNREACHABLE
    # A socket that was not closed is a ResourceWarning here, and so an error.
    gc.collect()


def test_nothing_is_left_open() -> None:
    with OddServer(short_body) as server:
        ask(server)
        ask(server, within=timedelta(0))

    # A socket that was not closed is a ResourceWarning here, and so an error.
    gc.collect()
