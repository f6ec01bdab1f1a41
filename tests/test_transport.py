"""One try of a request: whether it began, and what of a response is read."""

from __future__ import annotations

import gc
import select
import socket
import time
from datetime import timedelta

import pytest

from finch_middleware.finch import transport
from finch_middleware.finch.transport import FinchResponse, NoResponse, Request, Transport
from tests.asking import (
    RESET,
    TOO_LARGE,
    UNREACHABLE,
    answered,
    ask,
    first,
    over_tls,
    responded,
)
from tests.odd_server import (
    Behaviour,
    Line,
    OddServer,
    answering,
    authority,
    endlessly,
    once,
    raw_answer,
    stall,
)

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

        result = Transport().send(request, ends=time.monotonic() + 1)

        assert result == UNREACHABLE
        assert server.received_bytes == 0


def test_plain_http_on_a_tls_port_began_and_broke() -> None:
    with OddServer(stall, tls=authority().server()) as server:
        server.url = server.url.replace("https:", "http:")

        result = ask(server)

    assert isinstance(result, NoResponse)
    assert result.began


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nNo colon here\r\n\r\n"
INTERIM += b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADER_WITHOUT_COLON = raw_answer(b"{}", "canary-token, where a header should be")
BROKEN: dict[str, Behaviour] = {
    "closed": once(b""),
    "reset": once(b"", then=Line.reset),
    "another protocol": once(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "lengths that differ": once(raw_answer(b"{}", "Content-Length: 2", "Content-Length: 3")),
    "header without colon": once(HEADER_WITHOUT_COLON),
    "many headers": once(raw_answer(b"{}", *["X: a", " b"] * 50)),
    "header without name": once(raw_answer(b"{}", ": x")),
    "another version": once(b"HTTP/2.0 200 OK\r\n\r\n"),
    "switched protocols": once(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + raw_answer(b"{}")
    ),
    "interim response only": once(INTERIM),
}


@pytest.mark.parametrize("behave", BROKEN.values(), ids=list(BROKEN))
def test_a_connection_that_breaks_after_the_first_byte_had_begun(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        result = ask(server)

        assert len(server.requests) == 1
    assert result == RESET


def test_a_response_given_before_the_request_was_read_is_read() -> None:
    def behave(line: Line) -> None:
        line.sock.recv(10)
        line.send(raw_answer(b"{}", "Connection: close", status="413 Too Large"))
        line.sock.shutdown(socket.SHUT_WR)
        # Closed with unread bytes, the connection would be reset.
        while line.sock.recv(65_536):
            pass

    with OddServer(behave) as server:
        result = answered(ask(server))

    assert (result.status, result.body) == (413, b"{}")


@pytest.mark.usefixtures("kept_long")
def test_interim_responses_are_passed_over() -> None:
    final = b"HTTP/1.1 100 Continue\r\n\r\n" + raw_answer(b'{"a": 1}')
    with OddServer(answering(INTERIM + final)) as server:
        client = Transport()
        results = [answered(ask(server, transport=client)) for _ in range(2)]

        assert server.accepted == 1
    assert [(each.status, each.body) for each in results] == [(200, b'{"a": 1}')] * 2
    assert results[0].headers["Content-Length"] == "8"


BROKEN_BODIES: dict[str, Behaviour] = {
    "closed within headers": once(b"HTTP/1.1 200 OK\r\nContent-Type: appl"),
    "short": once(raw_answer(b'{"a": 1}', "Content-Length: 100")),
    "no chunk": once(raw_answer(b"zz\r\n{}", "Transfer-Encoding: chunked")),
}


@pytest.mark.parametrize("behave", BROKEN_BODIES.values(), ids=list(BROKEN_BODIES))
def test_a_body_that_breaks_keeps_its_status(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        result = answered(ask(server))

    assert (result.status, result.body, result.fault) == (200, None, "reset")


def test_a_body_that_is_reset_keeps_its_status() -> None:
    def behave(line: Line) -> None:
        line.request()
        line.send(raw_answer(b"{", "Content-Length: 100"))
        # A reset discards what the client has not read yet.
        line.wait(0.05 * 4**server.accepted)
        line.reset()

    with OddServer(behave) as server:
        result = first(lambda _: ask(server), reached=responded)

    assert (answered(result).status, answered(result).fault) == (200, "reset")


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

    with OddServer(once(raw)) as server:
        result = answered(ask(server))

    assert (result.body, result.fault) == (None, "too_large")


LONG_HEADER = b"X: " + b"x" * 60_000 + b"\r\n"


@pytest.mark.parametrize(
    "behave",
    [endlessly(LONG_HEADER, first=b"HTTP/1.1 200 OK\r\n"), endlessly(INTERIM)],
    ids=["headers", "interim responses"],
)
def test_a_response_that_never_comes_to_its_body_is_cut_off(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        assert ask(server) == TOO_LARGE


TOO_LONG: dict[str, Behaviour] = {
    "endless trailers": endlessly(
        LONG_HEADER, first=raw_answer(b"2\r\n{}\r\n0\r\n", "Transfer-Encoding: chunked")
    ),
    "announced": once(raw_answer(b"", "Content-Length: 1073741824"), then=stall),
}


@pytest.mark.parametrize("behave", TOO_LONG.values(), ids=list(TOO_LONG))
def test_a_body_that_would_be_too_large_is_not_waited_for(behave: Behaviour) -> None:
    with OddServer(behave) as server:
        assert answered(ask(server)).fault == "too_large"


@pytest.mark.parametrize(
    ("raw", "body", "header"),
    [
        (raw_answer(b"{}", "X: a", " b", "Y: c", "x:d"), b"{}", "a\r\n b, d"),
        (raw_answer(b"{}", "Content-Length: 2", "Content-Length: 2", "X: a"), b"{}", "a"),
        (b"HTTP/1.0 200\nX:\nContent-Length: 2\n\n{}", b"{}", ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", None),
    ],
    ids=["continued", "two lengths", "old version", "no content"],
)
def test_an_unusual_head_is_read(raw: bytes, body: bytes, header: str | None) -> None:
    with OddServer(answering(raw)) as server:
        result = answered(ask(server))

    assert (result.body, result.headers.get("X")) == (body, header)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_an_encoded_body_is_refused(coding: str) -> None:
    with OddServer(answering(raw_answer(b"{}", f"Content-Encoding: {coding}"))) as server:
        result = answered(ask(server))

    assert (result.body, result.fault) == (None, "encoded")


def test_a_body_encoded_as_identity_is_read() -> None:
    with OddServer(answering(raw_answer(b"{}", "Content-Encoding: Identity"))) as server:
        result = answered(ask(server))

    assert result.body == b"{}"


def test_the_body_of_a_server_error_is_not_waited_for() -> None:
    raw = raw_answer(b"", "Content-Length: 5", "Retry-After: 1", status="503 Busy")
    with OddServer(once(raw, then=stall)) as server:
        result = answered(ask(server))

    assert (result.status, result.headers["retry-after"], result.fault) == (503, "1", None)


# -- nothing shows --


def test_a_request_and_a_response_do_not_show_what_they_carry() -> None:
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
    with (
        OddServer(once(HEADER_WITHOUT_COLON)) as server,
        OddServer(BROKEN_BODIES["short"]) as other,
    ):
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
        select.select([line], [], [], 60)
        return line

    monkeypatch.setattr(transport, "_connect", connect_slowly)
    with OddServer(Line.reset) as server:
        result = ask(over_tls(server))

    assert result == UNREACHABLE
    # A socket that was not closed is a ResourceWarning here, and so an error.
    gc.collect()


def test_nothing_is_left_open() -> None:
    with OddServer(BROKEN_BODIES["short"]) as server:
        ask(server)
        ask(server, within=timedelta(0))

    # A socket that was not closed is a ResourceWarning here, and so an error.
    gc.collect()
