"""The exchange: what is sent, what each response means, and when it is tried again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from finch_middleware.errors import (
    BadResponse,
    CodeRejected,
    ExchangeAmbiguous,
    FinchFault,
    FinchUnavailable,
)
from tests.asking import (
    CLIENT_SECRET,
    CODE,
    GRANT,
    INVALID_CLIENT,
    SECOND,
    TOKEN,
    StillClock,
    api_of,
    exchanged,
    fault_of,
    finch_error,
    first,
    json_answer,
    over_tls,
)
from tests.odd_server import (
    Behaviour,
    Line,
    OddServer,
    answering,
    authority,
    endlessly,
    once,
    parsed,
    raw_answer,
    stall,
)

REDIRECT_URI = "https://app.example.com/finch/callback"


# -- the exchange: what is sent ------------------------------------------------------------------


def test_an_exchange_sends_what_finch_documents_and_no_authorization() -> None:
    with OddServer(answering(json_answer(GRANT))) as server:
        exchanged(api_of(server), redirect_uri=REDIRECT_URI)

        line, headers, body = parsed(server.requests[0])
    assert line == "POST /auth/token HTTP/1.1"
    assert json.loads(body) == {
        "client_id": "client-1",
        "client_secret": CLIENT_SECRET,
        "code": CODE,
        "redirect_uri": REDIRECT_URI,
    }
    assert headers["content-type"] == "application/json"
    assert headers["finch-api-version"] == "2020-09-17"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("finch-middleware/")
    assert not {"authorization", "cookie"} & set(headers)


def test_the_embedded_flow_sends_no_redirect_uri() -> None:
    with OddServer(answering(json_answer(GRANT))) as server:
        exchanged(api_of(server), redirect_uri=None)

        body = parsed(server.requests[0])[2]
    assert set(json.loads(body)) == {"client_id", "client_secret", "code"}


def test_a_path_of_the_api_url_is_kept() -> None:
    with OddServer(answering(json_answer(GRANT))) as server:
        exchanged(api_of(server, path="/finch"))

        line = parsed(server.requests[0])[0]
    assert line == "POST /finch/auth/token HTTP/1.1"


def test_a_cookie_of_finch_is_not_sent_back() -> None:
    with OddServer(answering(json_answer(GRANT, "Set-Cookie: a=b; Path=/"))) as server:
        api = api_of(server)
        exchanged(api)
        exchanged(api)

        headers = parsed(server.requests[1])[1]
    assert "cookie" not in headers


# -- the exchange: what a response means ----------------------------------------------------------

INVALID_GRANT = finch_error("400 Bad Request", "invalid_grant_error")
HTML = raw_answer(b"<html>", "Content-Type: text/html", status="502 Bad Gateway")


def busy(wait: str) -> bytes:
    """A 503 that asks to wait so long."""
    return raw_answer(b"", f"Retry-After: {wait}", status="503 Busy")


@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (INVALID_GRANT, CodeRejected, "invalid_grant"),
        (finch_error("400 Bad Request", "invalid_grant"), CodeRejected, "invalid_grant"),
        (finch_error("400 Bad Request", "bad_request"), BadResponse, "refused"),
        (raw_answer(b"<html>", status="400 Bad Request"), BadResponse, "refused"),
        (raw_answer(b"[]", status="400 Bad Request"), BadResponse, "refused"),
        (raw_answer(b'{"name": 1}', status="400 Bad Request"), BadResponse, "refused"),
        (INVALID_CLIENT, FinchUnavailable, "client_rejected"),
        (finch_error("401 Unauthorized", "invalid_request_error"), BadResponse, "refused"),
        (finch_error("402 Pay", "payment_required"), FinchUnavailable, "payment_required"),
        (finch_error("403 Forbidden", "invalid_grant_error"), BadResponse, "refused"),
        (finch_error("404 Not Found", "not_found"), BadResponse, "refused"),
        (finch_error("408 Timeout", "timeout"), BadResponse, "refused"),
        (finch_error("409 Conflict", "conflict"), BadResponse, "refused"),
        (finch_error("429 Slow", "rate_limit_exceeded_error"), FinchUnavailable, "throttled"),
        (raw_answer(b"", "Location: /x", status="307 Unavailable"), BadResponse, "redirected"),
        (raw_answer(b"", status="304 Same"), BadResponse, "redirected"),
        (finch_error("500 Oops", "server_error"), ExchangeAmbiguous, "server_error"),
        (HTML, ExchangeAmbiguous, "server_error"),
        (raw_answer(b"", status="503 Busy"), ExchangeAmbiguous, "server_error"),
        (busy("soon"), ExchangeAmbiguous, "server_error"),
        (busy("99"), ExchangeAmbiguous, "server_error"),
        (busy("0"), ExchangeAmbiguous, "server_error"),
        (raw_answer(b"", status="504 Late"), ExchangeAmbiguous, "server_error"),
        (raw_answer(b"x" * 70_000), BadResponse, "too_large"),
        (raw_answer(b"{}", "Content-Encoding: gzip"), BadResponse, "encoded"),
        (raw_answer(b"<html>"), BadResponse, "not_json"),
        (raw_answer(b""), BadResponse, "not_json"),
        (raw_answer(b"[]"), BadResponse, "wrong_shape"),
        (raw_answer(b"", status="204 None"), BadResponse, "not_json"),
    ],
)
def test_each_response_to_an_exchange_has_one_meaning_and_is_asked_for_once(
    raw: bytes, kind: type[FinchFault], reason: str
) -> None:
    with OddServer(answering(raw)) as server:
        with pytest.raises(FinchFault) as caught:
            exchanged(api_of(server))

        assert len(server.requests) == 1
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert caught.value.status == int(raw[9:12])
    assert caught.value.request_id == "req-1"


HALF_A_BODY = raw_answer(b'{"access', "Content-Length: 300")
LONG_HEADER = b"X: " + b"x" * 60_000 + b"\r\n"


@pytest.mark.parametrize(
    ("behave", "kind", "reason"),
    [
        (once(b"", then=Line.reset), ExchangeAmbiguous, "reset"),
        (once(HALF_A_BODY), ExchangeAmbiguous, "reset"),
        (stall, ExchangeAmbiguous, "timeout"),
        (once(HALF_A_BODY, then=stall), ExchangeAmbiguous, "timeout"),
        (endlessly(LONG_HEADER, first=b"HTTP/1.1 200 OK\r\n"), BadResponse, "too_large"),
    ],
    ids=["reset", "half a body", "no response", "body stalls", "endless headers"],
)
def test_an_exchange_that_breaks_after_its_first_byte_is_not_tried_again(
    behave: Behaviour, kind: type[FinchFault], reason: str
) -> None:
    def exchange(within: timedelta) -> tuple[FinchFault, int]:
        with OddServer(behave) as server:
            return fault_of(lambda: exchanged(api_of(server), within=within)), server.accepted

    fault, accepted = first(
        exchange, reached=lambda result: result[0].reason == reason and result[1] > 0
    )

    assert (type(fault), fault.reason, accepted) == (kind, reason, 1)


def test_an_unreachable_finch_is_tried_three_times_and_leaves_the_code_unspent() -> None:
    with OddServer(Line.reset) as server:
        fault = fault_of(lambda: exchanged(api_of(over_tls(server))))

        assert server.accepted == 3
    assert (type(fault), fault.reason, fault.status) == (FinchUnavailable, "unreachable", None)


def test_a_finch_that_can_be_reached_at_the_third_try_grants() -> None:
    def behave(line: Line) -> None:
        if server.accepted < 3:
            line.reset()
        else:
            line.secure(authority().server())
            answering(json_answer(GRANT))(line)

    with OddServer(behave) as server:
        grant = exchanged(api_of(over_tls(server)), within=60 * SECOND)

    assert TOKEN in grant.document.reveal()


def test_a_certificate_that_is_not_trusted_is_tried_once() -> None:
    with OddServer(stall, tls=authority().server("finch.example")) as server:
        with pytest.raises(FinchUnavailable, match="unreachable"):
            exchanged(api_of(server))

        assert (server.accepted, server.received_bytes) == (1, 0)


def test_a_kept_connection_that_the_server_closed_makes_no_ambiguous_exchange() -> None:
    with OddServer(once(json_answer(GRANT))) as server:
        api = api_of(server)
        for _ in range(3):
            exchanged(api)
            server.end_conversations()

        assert len(server.requests) == 3


# -- waiting, and trying again ---------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StillClock:
    return StillClock(monkeypatch)


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def slow(wait: str) -> bytes:
    """A 429 that asks to wait so long."""
    return raw_answer(b"", f"Retry-After: {wait}", status="429 Slow")


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [("0", 0, 0), ("1", 1, 1), (in_seconds(-90), 0, 0), (in_seconds(10**6), 10**5, 10**6)],
    ids=["now", "seconds", "past date", "date"],
)
def test_an_exchange_waits_as_finch_asks_and_is_granted(
    wait: str, least: int, most: int, clock: StillClock
) -> None:
    with OddServer(answering(slow(wait), slow(wait), json_answer(GRANT))) as server:
        exchanged(api_of(server), within=10**7 * SECOND)

        assert len(server.requests) == 3
    assert len(clock.slept) == 2
    assert all(least <= slept <= most for slept in clock.slept)


def test_an_exchange_is_throttled_after_three_tries() -> None:
    with OddServer(answering(slow("0"))) as server:
        with pytest.raises(FinchUnavailable, match="throttled") as caught:
            exchanged(api_of(server))

        assert len(server.requests) == 3
    assert caught.value.retry_after == 0


@pytest.mark.parametrize(
    ("header", "retry_after"),
    [
        ("99999", 99999),
        ("5", 5),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 40, None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("Thu, 01 Jan 2099 00:00:00 GMT", "years"),
        ("Thu, 01 Jan 9999 00:00:00 -2359", "years"),
        ("\xb2", None),
    ],
)
def test_an_exchange_does_not_wait_too_long_or_for_an_unreadable_time(
    header: str, retry_after: object, clock: StillClock
) -> None:
    with OddServer(answering(slow(header))) as server:
        with pytest.raises(FinchUnavailable, match="throttled") as caught:
            exchanged(api_of(server), within=4 * SECOND)

        assert len(server.requests) == 1
    assert clock.slept == []
    if retry_after == "years":
        assert (caught.value.retry_after or 0) > 10**9
    else:
        assert caught.value.retry_after == retry_after


@pytest.mark.parametrize(("seconds", "tries"), [(9, 3), (8.5, 2), (4.1, 1)])
def test_retries_share_one_deadline_and_none_begins_without_time_for_it(
    seconds: float, tries: int, clock: StillClock
) -> None:
    with OddServer(answering(slow("4"))) as server:
        with pytest.raises(FinchUnavailable, match="throttled"):
            exchanged(api_of(server), within=seconds * SECOND)

        assert len(server.requests) == tries
    assert clock.slept == [4] * (tries - 1)
