"""Connect sessions, introspection, disconnection, and the client itself."""

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
    LONG,
    SECOND,
    TOKEN,
    api_of,
    exchanged,
    fault_of,
    finch_error,
    first,
    json_answer,
)
from tests.odd_server import Behaviour, OddServer, answering, once, parsed, raw_answer, stall

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
        session = getattr(api_of(server), call)(FIELDS, within=LONG)

        line, headers, body = parsed(server.requests[0])
    credentials = base64.b64encode(f"client-1:{CLIENT_SECRET}".encode()).decode()
    assert line == f"POST {path} HTTP/1.1"
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
def test_a_customer_who_is_already_connected_has_an_error_of_its_own(
    fields: dict[str, object], connection_id: str | None
) -> None:
    refusal = finch_error("400 Bad", "bad_request", **fields)
    with OddServer(answering(refusal)) as server, pytest.raises(AlreadyConnected) as caught:
        make("create_session", api_of(server))

    assert (caught.value.connection_id, caught.value.request_id) == (connection_id, "req-1")


@pytest.mark.parametrize(
    ("call", "status"), [("create_session", "409 Conflict"), ("reauthenticate", "400 Bad")]
)
def test_no_other_refusal_means_that_the_customer_is_already_connected(
    call: str, status: str
) -> None:
    refusal = finch_error(status, "refused", context=CONTEXT)
    with OddServer(answering(refusal)) as server, pytest.raises(FinchRefused):
        make(call, api_of(server))


SUCCESS = json_answer({"status": "success"})
CALLS = ["create_session", "reauthenticate", "introspect", "disconnect", "disconnect_entities"]


def make(call: str, api: FinchClient, *, within: timedelta = LONG) -> object:
    about: list[object] = [FIELDS] if call in CALLS[:2] else [Secret(TOKEN)]
    ended = [["e-1"]] if call == "disconnect_entities" else []
    return getattr(api, call)(*about, *ended, within=within)


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
        (raw_answer(b"", "Location: /x", status="302 Found"), FinchUnavailable, "bad_response"),
        (raw_answer(b"<html>", status="404 Lost"), FinchUnavailable, "bad_response"),
        (raw_answer(b"<html>"), FinchUnavailable, "bad_response"),
        (raw_answer(b"[]"), FinchUnavailable, "bad_response"),
        (raw_answer(b"{}", "Content-Encoding: gzip"), FinchUnavailable, "bad_response"),
    ],
)
def test_each_response_to_another_call_has_one_meaning(
    call: str, raw: bytes, kind: type[FinchFault], reason: str
) -> None:
    with OddServer(answering(raw)) as server:
        with pytest.raises(FinchFault) as caught:
            make(call, api_of(server))

        assert len(server.requests) == 1
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert caught.value.request_id == "req-1"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("redirect_uri https://app.example.com/cb is not registered", "Credentials tab"),
        ("Invalid products: compnay", "must be one that Finch publishes"),
        ("something else", ""),
        (["no", "text"], ""),
    ],
)
def test_a_refusal_names_what_to_look_at_and_hides_what_finch_wrote(
    message: object, advice: str
) -> None:
    fields = {"code": 400, "name": "bad_request", "finch_code": "invalid_request"}
    refusal = json_answer(fields | {"message": message}, status="400 Bad Request")

    with OddServer(answering(refusal)) as server, pytest.raises(FinchRefused) as caught:
        make("create_session", api_of(server))

    text = str(caught.value)
    assert "as bad_request, invalid_request" in text
    assert advice in text
    assert text.endswith("invalid_request") == (not advice)
    assert (caught.value.name, caught.value.finch_code) == ("bad_request", "invalid_request")
    assert caught.value.message is not None
    assert caught.value.message.reveal() == (message if isinstance(message, str) else "")
    assert str(message) not in f"{text} {caught.value!r} {vars(caught.value)!r}"


def test_finchs_sentence_is_cut_and_cleaned() -> None:
    fields = {"name": "bad_request", "message": "a\x1b[2J\r\n" + "b" * 400}
    with (
        OddServer(answering(json_answer(fields, status="400 Bad Request"))) as server,
        pytest.raises(FinchRefused) as caught,
    ):
        make("create_session", api_of(server))

    assert caught.value.message is not None
    assert caught.value.message.reveal() == "a[2J" + "b" * 296


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", ["429 Slow", "503 Busy"])
def test_another_call_is_made_again_when_finch_asks_to_wait(call: str, status: str) -> None:
    refusal = raw_answer(b"", "Retry-After: 0", status=status)
    success = json_answer(SESSION | {"status": "success"})
    with OddServer(answering(refusal, refusal, success)) as server:
        make(call, api_of(server))

        assert len(server.requests) == 3


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("behave", "reason"), [(once(b""), "reset"), (stall, "timeout")])
def test_another_call_without_a_response_finds_finch_unavailable(
    call: str, behave: Behaviour, reason: str
) -> None:
    def attempt(within: timedelta) -> tuple[FinchFault, int]:
        with OddServer(behave) as server:
            return fault_of(lambda: make(call, api_of(server), within=within)), server.accepted

    fault, accepted = first(
        attempt, reached=lambda result: result[0].reason == reason and result[1] > 0
    )

    assert (type(fault), fault.reason, accepted) == (FinchUnavailable, reason, 1)


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
    with OddServer(answering(json_answer(fields, status="201 Created"))) as server:
        fault = fault_of(lambda: make("create_session", api_of(server)))

    assert (type(fault), fault.reason) == (FinchUnavailable, "bad_response")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_session_of_a_finch_on_loopback_may_be_plain(host: str) -> None:
    fields = {**SESSION, "connect_url": f"http://{host}:8080/connect"}
    with OddServer(answering(json_answer(fields))) as server:
        session = api_of(server).create_session(FIELDS, within=LONG)

    assert session.connect_url == fields["connect_url"]


def test_introspect_asks_with_the_token_and_keeps_every_field() -> None:
    known = {"id": "i-1", "connection_status": {"status": "connected"}, "of_tomorrow": [1]}
    with OddServer(answering(json_answer(known))) as server:
        fields = api_of(server).introspect(Secret(TOKEN), within=LONG)

        line, headers, body = parsed(server.requests[0])
    assert (line, body) == ("GET /introspect HTTP/1.1", b"")
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert fields == known


def test_disconnect_asks_with_the_token_and_no_body() -> None:
    with OddServer(answering(SUCCESS)) as server:
        api_of(server).disconnect(Secret(TOKEN), within=LONG)

        line, headers, body = parsed(server.requests[0])
    assert (line, body) == ("POST /disconnect HTTP/1.1", b"")
    assert (headers["authorization"], headers["content-length"]) == (f"Bearer {TOKEN}", "0")


@pytest.mark.parametrize("call", ["disconnect", "disconnect_entities"])
def test_a_response_without_success_is_no_disconnect(call: str) -> None:
    with OddServer(answering(json_answer({"status": "pending"}))) as server:
        fault = fault_of(lambda: make(call, api_of(server)))

    assert (type(fault), fault.reason) == (FinchUnavailable, "bad_response")


def test_a_token_that_fits_no_header_is_not_sent() -> None:
    with OddServer(stall) as server:
        with pytest.raises(FinchUnavailable, match="unreachable"):
            api_of(server).introspect(Secret("a\r\nX: b"), within=LONG)

        assert server.received_bytes == 0


# -- the client itself ----------------------------------------------------------------------------


def test_making_the_client_does_no_io(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")

    api = FinchClient(client_id="c", client_secret=Secret("s"), ca_bundle=absent)

    with pytest.raises(FinchError, match="unreachable"):
        exchanged(api, within=SECOND)


def test_the_user_agent_names_an_uninstalled_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
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
