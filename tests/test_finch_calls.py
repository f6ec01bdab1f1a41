"""Sessions, introspect, disconnect; and the client itself."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest
import responses

from finch_middleware.errors import (
    AlreadyConnected,
    ConfigurationError,
    FinchError,
    FinchFault,
    FinchRefused,
    FinchUnavailable,
)
from finch_middleware.finch import client as finch_api
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.secret import Secret
from tests.asking import (
    CLIENT_SECRET,
    GRANT,
    INVALID_CLIENT,
    SECOND,
    TOKEN,
    api_of,
    exchanged,
    finch_error,
    json_answer,
)
from tests.odd_server import (
    Behaviour,
    OddServer,
    answering,
    parsed,
    raw_answer,
    reset_after_request,
    stall,
)

SESSION = {"session_id": "s-1", "connect_url": "https://connect.tryfinch.com/authorize?session=s-1"}
FIELDS: dict[str, object] = {"customer_id": "acme", "products": ["company"]}
CREATED = json_answer(SESSION, status="201 Created")


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("create_session", "/connect/sessions"),
        ("reauthenticate", "/connect/sessions/reauthenticate"),
    ],
)
def test_a_session_is_asked_for_with_basic_authorization(call: str, path: str) -> None:
    with OddServer(answering(CREATED)) as server:
        session = getattr(api_of(server), call)(FIELDS, within=5 * SECOND)

        first, headers, body = parsed(server.requests[0])
    credentials = base64.b64encode(f"client-1:{CLIENT_SECRET}".encode()).decode()
    assert first == f"POST {path} HTTP/1.1"
    assert headers["authorization"] == f"Basic {credentials}"
    assert headers["finch-api-version"] == "2020-09-17"
    assert json.loads(body) == FIELDS
    expected = ConnectSession(SESSION["session_id"], SESSION["connect_url"], request_id="req-1")
    assert session == expected


CONTEXT = {"connection_id": "c-1"}


@pytest.mark.parametrize(
    ("fields", "connection_id"),
    [
        ({"context": CONTEXT}, "c-1"),
        ({"context": CONTEXT, "finch_code": "connection_already_exists"}, "c-1"),
        ({"finch_code": "connection_already_exists"}, None),
        ({"finch_code": "connection_already_exists", "context": {"connection_id": 1}}, None),
        ({"finch_code": "connection_already_exists", "context": {"connection_id": "\0"}}, None),
        ({"finch_code": "connection_already_exists", "context": []}, None),
    ],
)
def test_a_customer_who_is_connected_is_told_apart(
    fields: dict[str, object], connection_id: str | None
) -> None:
    refusal = finch_error("400 Bad", "bad_request", **fields)
    with (
        OddServer(answering(refusal)) as server,
        pytest.raises(AlreadyConnected) as caught,
    ):
        api_of(server).create_session(FIELDS, within=5 * SECOND)

    assert caught.value.connection_id == connection_id
    assert caught.value.request_id == "req-1"


def test_only_a_bad_request_says_that_a_customer_is_connected() -> None:
    refusal = finch_error("409 Conflict", "conflict", context=CONTEXT)
    with OddServer(answering(refusal)) as server, pytest.raises(FinchRefused):
        api_of(server).create_session(FIELDS, within=5 * SECOND)


def test_a_renewal_that_is_refused_names_no_other_connection() -> None:
    refusal = finch_error("400 Bad", "bad_request", context=CONTEXT)
    with OddServer(answering(refusal)) as server, pytest.raises(FinchRefused):
        api_of(server).reauthenticate(FIELDS, within=5 * SECOND)


SUCCESS = json_answer({"status": "success"})
CALLS = ["create_session", "reauthenticate", "introspect", "disconnect"]


def make(call: str, api: FinchClient, *, within: timedelta = 5 * SECOND) -> object:
    about: object = Secret(TOKEN) if call in ("introspect", "disconnect") else FIELDS
    return getattr(api, call)(about, within=within)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (finch_error("400 Bad", "bad_request"), FinchRefused, "refused"),
        (finch_error("404 Lost", "not_found"), FinchRefused, "refused"),
        (finch_error("401 No", "authentication_error"), FinchRefused, "refused"),
        (INVALID_CLIENT, FinchUnavailable, "client_rejected"),
        (finch_error("402 Pay", "payment_required"), FinchUnavailable, "payment_required"),
        (finch_error("429 Slow", "rate_limit"), FinchUnavailable, "throttled"),
        (finch_error("500 Oops", "server_error"), FinchUnavailable, "server_error"),
        (raw_answer(b"", "Retry-After: 99", status="503 Busy"), FinchUnavailable, "throttled"),
        (raw_answer(b"", "Retry-After: soon", status="503 Busy"), FinchUnavailable, "server_error"),
        (
            raw_answer(b"", "Location: /x", status="302 Away"),
            FinchUnavailable,
            "bad_response",
        ),
        (raw_answer(b"<html>", status="404 Lost"), FinchUnavailable, "bad_response"),
        (raw_answer(b"<html>"), FinchUnavailable, "bad_response"),
        (raw_answer(b"[]"), FinchUnavailable, "bad_response"),
        (raw_answer(b"{}", "Content-Encoding: gzip"), FinchUnavailable, "bad_response"),
    ],
)
def test_each_answer_to_another_call_has_one_meaning(
    call: str, raw: bytes, kind: type[FinchFault], reason: str
) -> None:
    with OddServer(answering(raw)) as server:
        with pytest.raises(FinchFault) as caught:
            make(call, api_of(server))

        assert len(server.requests) == 1
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert caught.value.request_id == "req-1"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("behave", "reason"), [(reset_after_request, "reset"), (stall, "timeout")])
def test_another_call_without_an_answer_finds_finch_away(
    call: str, behave: Behaviour, reason: str
) -> None:
    with OddServer(behave) as server:
        with pytest.raises(FinchUnavailable, match=reason):
            make(call, api_of(server), within=0.4 * SECOND)

        assert server.accepted == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**SESSION, "session_id": ""},
        {**SESSION, "session_id": 1},
        {**SESSION, "session_id": "s 1"},
        {**SESSION, "session_id": "é"},
        {**SESSION, "session_id": "s" * 256},
        {**SESSION, "connect_url": None},
        {**SESSION, "connect_url": "http://connect.tryfinch.com/"},
        {**SESSION, "connect_url": "http://127.0.0.2:8080/connect"},
        {**SESSION, "connect_url": "javascript:alert(1)"},
        {**SESSION, "connect_url": "https://"},
        {**SESSION, "connect_url": "https://[::1"},
        {**SESSION, "connect_url": "https://x:99999"},
        {**SESSION, "connect_url": "https://x.example/\r\nSet-Cookie: a=b"},
        {**SESSION, "connect_url": "https://é.example/"},
        {**SESSION, "connect_url": "https://x.example/" + "x" * 4096},
    ],
)
def test_a_session_that_no_browser_can_be_sent_to_is_refused(fields: dict[str, object]) -> None:
    with (
        OddServer(answering(json_answer(fields, status="201 Created"))) as server,
        pytest.raises(FinchUnavailable, match="bad_response"),
    ):
        api_of(server).create_session(FIELDS, within=5 * SECOND)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_session_of_a_finch_on_loopback_may_be_plain(host: str) -> None:
    fields = {**SESSION, "connect_url": f"http://{host}:8080/connect"}
    with OddServer(answering(json_answer(fields))) as server:
        session = api_of(server).create_session(FIELDS, within=5 * SECOND)

    assert session.connect_url == fields["connect_url"]


def test_introspect_asks_with_the_token_and_keeps_every_field() -> None:
    known = {"id": "i-1", "connection_status": {"status": "connected"}, "of_tomorrow": [1]}
    with OddServer(answering(json_answer(known))) as server:
        fields = api_of(server).introspect(Secret(TOKEN), within=5 * SECOND)

        first, headers, body = parsed(server.requests[0])
    assert (first, body) == ("GET /introspect HTTP/1.1", b"")
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert fields == known


def test_disconnect_asks_with_the_token_and_no_body() -> None:
    with OddServer(answering(SUCCESS)) as server:
        api_of(server).disconnect(Secret(TOKEN), within=5 * SECOND)

        first, headers, body = parsed(server.requests[0])
    assert (first, body) == ("POST /disconnect HTTP/1.1", b"")
    assert (headers["authorization"], headers["content-length"]) == (f"Bearer {TOKEN}", "0")


def test_an_answer_without_success_does_not_pass_for_a_disconnect() -> None:
    with (
        OddServer(answering(json_answer({"status": "pending"}))) as server,
        pytest.raises(FinchUnavailable, match="bad_response"),
    ):
        api_of(server).disconnect(Secret(TOKEN), within=5 * SECOND)


def test_a_token_that_no_header_takes_is_not_sent() -> None:
    with OddServer(stall) as server:
        with pytest.raises(FinchUnavailable, match="unreachable"):
            api_of(server).introspect(Secret("a\r\nX: b"), within=5 * SECOND)

        assert server.received_bytes == 0


# -- the client itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "api_url",
    [
        "",
        "api.tryfinch.com",
        "http://api.tryfinch.com",
        "http://localhost.evil.example",
        "http://127.0.0.2",
        "ftp://localhost",
        "https://user:pass@api.tryfinch.com",
        "https://api.tryfinch.com?x=y",
        "https://api.tryfinch.com#x",
        "https://api.tryfinch.com:x",
        "https://api.tryfinch.com/ x",
        "https://",
    ],
)
def test_an_api_url_that_is_not_safe_is_refused(api_url: str) -> None:
    with pytest.raises(ConfigurationError, match="api_url"):
        FinchClient(client_id="c", client_secret=Secret("s"), api_url=api_url)


def test_making_the_client_does_no_io(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")

    api = FinchClient(client_id="c", client_secret=Secret("s"), ca_bundle=absent)

    with pytest.raises(FinchError, match="unreachable"):
        exchanged(api, within=SECOND)


def test_an_uninstalled_checkout_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    finch_api._user_agent.cache_clear()
    with OddServer(answering(json_answer(GRANT))) as server:
        exchanged(api_of(server))

        headers = parsed(server.requests[0])[1]
    finch_api._user_agent.cache_clear()
    assert headers["user-agent"] == "finch-middleware/uninstalled"


@responses.activate
def test_an_applications_tests_can_play_finch_with_responses() -> None:
    responses.post("https://api.tryfinch.com/auth/token", json=GRANT)
    api = FinchClient(client_id="client-1", client_secret=Secret(CLIENT_SECRET))

    grant = exchanged(api)

    assert grant.customer_id == "acme"
