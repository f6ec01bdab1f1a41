"""The token endpoint's responses, parsed strictly."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from finch_middleware.errors import (
    BadResponse,
    ExchangeAmbiguous,
)
from finch_middleware.finch.responses import read_state
from finch_middleware.records import Entity, Grant
from finch_middleware.secret import Secret
from tests.asking import (
    GRANT,
    TOKEN,
    api_of,
    exchanged,
)
from tests.odd_server import OddServer, answering, raw_answer


def granted(body: bytes | dict[str, object], *headers: str) -> Grant:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with OddServer(answering(raw_answer(raw, *headers))) as server:
        return exchanged(api_of(server))


def token_of(grant: Grant) -> object:
    return json.loads(grant.document.reveal())["access_token"]


# -- grants --------------------------------------------------------------------------------------


def test_a_grant_has_every_field_and_the_whole_document() -> None:
    body = json.dumps({**GRANT, "of_tomorrow": {"a": [1, 2.5, None, True]}}).encode()

    grant = granted(body)

    assert grant == Grant(
        document=Secret(body.decode()),
        connection_id="c0ffee00-0000-4000-8000-000000000001",
        customer_id="acme",
        provider_id="gusto",
        products=("company", "directory"),
        client_type="sandbox",
        connection_type="provider",
        entity_ids=("e1",),
        request_id="req-1",
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["e1", "e2", "e1"], ("e1", "e2")),
        (["e1", "", None, 7, "\ud800", "x" * 256], ("e1",)),
        ("e1", ()),
        (None, ()),
    ],
)
def test_a_malformed_entity_id_does_not_cost_the_token(
    given: object, kept: tuple[str, ...]
) -> None:
    grant = granted({**GRANT, "entity_ids": given})

    assert grant.connection_id is not None
    assert grant.entity_ids == kept


def test_a_token_alone_is_a_grant() -> None:
    grant = granted({"access_token": TOKEN})

    assert (grant.connection_id, grant.customer_id, grant.products) == (None, None, ())
    assert (grant.provider_id, grant.client_type, grant.connection_type) == ("", "", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"customer_id": 42}, {"customer_id": "42"}),
        ({"customer_id": 10**40}, {"customer_id": "1" + "0" * 40}),
        ({"customer_id": None}, {"customer_id": None}),
        ({"customer_id": ""}, {"customer_id": None}),
        ({"customer_id": "Ünïcode 🙂"}, {"customer_id": "Ünïcode 🙂"}),
        ({"customer_id": "x" * 255}, {"customer_id": "x" * 255}),
        ({"connection_id": None}, {"connection_id": None}),
        ({"products": ["employer:company"]}, {"products": ("employer:company",)}),
        ({"products": []}, {"products": ()}),
        ({"products": None}, {"products": ()}),
        ({"provider_id": None}, {"provider_id": ""}),
        ({"token_type": "Bearer"}, {}),
        ({"token_type": "BEARER"}, {}),
        ({"token_type": None}, {}),
        ({"access_token": "t"}, {}),
        ({"access_token": "~!" * 2048}, {}),
    ],
)
def test_each_form_that_finch_may_use_is_kept(
    given: dict[str, object], kept: dict[str, object]
) -> None:
    grant = granted({**GRANT, **given})

    assert {name: getattr(grant, name) for name in kept} == kept
    assert json.loads(grant.document.reveal()) == {**GRANT, **given}


def test_an_unknown_field_may_hold_half_a_character() -> None:
    grant = granted(json.dumps(GRANT)[:-1].encode() + b', "customer_nickname": "\\ud83d"}')

    assert grant.customer_id == "acme"


@pytest.mark.parametrize(
    "given",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 1},
        {"access_token": ["t"]},
        {"access_token": "t\r\nX: y"},
        {"access_token": "t\n"},
        {"access_token": "t\x7f"},
        {"access_token": "é"},
        {"access_token": "t" * 4097},
    ],
)
def test_a_response_without_a_usable_token_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadResponse) as caught:
        granted({**GRANT, **given})

    assert caught.value.reason == "wrong_shape"


ODD_IDS: list[dict[str, object]] = [
    {"customer_id": True},
    {"customer_id": 1.0},
    {"customer_id": {"id": 1}},
    {"customer_id": ["acme"]},
    {"customer_id": "a\0b"},
    {"customer_id": "\ud800"},
    {"customer_id": "x" * 256},
    {"customer_id": 10**300},
    {"connection_id": 1},
    {"connection_id": ["c"]},
    {"connection_id": "x" * 256},
]


@pytest.mark.parametrize("given", ODD_IDS, ids=str)
def test_an_id_of_no_usable_form_is_none_and_the_token_is_kept(given: dict[str, object]) -> None:
    grant = granted({**GRANT, **given})

    # Without a connection_id the token stays in quarantine until Finch was asked about it.
    assert grant.connection_id is None
    assert grant.customer_id == (None if "customer_id" in given else GRANT["customer_id"])
    assert (token_of(grant), grant.provider_id) == (TOKEN, "gusto")


@pytest.mark.parametrize(
    "given",
    [
        {"token_type": "mac"},
        {"token_type": False},
        {"token_type": 1},
        {"provider_id": 1},
        {"client_type": {}},
        {"connection_type": False},
        {"products": "company"},
        {"products": [1]},
        {"products": [""]},
        {"products": ["a\n"]},
        {"products": {"company": 1}},
        {"products": ["p"] * 65},
    ],
    ids=str,
)
def test_another_malformed_field_leaves_the_grant_incomplete(given: dict[str, object]) -> None:
    grant = granted({**GRANT, **given})

    # A grant without a connection_id is quarantined.
    assert grant.connection_id is None
    assert json.loads(grant.document.reveal()) == {**GRANT, **given}


def deep(levels: int) -> bytes:
    return b'{"access_token": "t", "x": ' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token": "t", "access_token": "u"}',
        b'{"access_token": "t", "x": {"a": 1, "a": 2}}',
        b'{"access_token": "t", "x": NaN}',
        b'{"access_token": "t", "x": -Infinity}',
        b'{"access_token": "t", "x": 1e400}',
        b'{"access_token": "t", "x": ' + b"9" * 5000 + b"}",
        b'{"access_token": "t", "x": "\xff"}',
        b'\xef\xbb\xbf{"access_token": "t"}',
        '{"access_token": "t"}'.encode("utf-16"),
        b'{"access_token": "t"} {}',
        b'{"access_token": "t"',
        b'{"access_token": "t',
        b'{"access_token": "t\\',
        b"{'access_token': 't'}",
        b'{"access_token": "t\n"}',
        b"[" * 60_000,
        b"]" * 30_000 + b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"a": "\\\\", "b": ' + b"[" * 30_000,
        deep(16),
    ],
)
def test_a_body_without_one_meaning_is_refused(body: bytes) -> None:
    with pytest.raises(BadResponse) as caught:
        granted(body)

    assert caught.value.reason == "not_json"


@pytest.mark.parametrize(
    "body",
    [
        deep(15),
        b'{"access_token": "t", "x": "' + b"[" * 1000 + b'"}',
        b'{"access_token": "t", "x": "\\"' + b"{" * 1000 + b'\\\\"}',
        b'{"access_token": "t", "x": [' + b"[],{}," * 1000 + b"[]]}",
    ],
)
def test_brackets_that_do_not_nest_deeply_are_accepted(body: bytes) -> None:
    grant = granted(body)

    assert token_of(grant) == "t"


@pytest.mark.parametrize("scalar", [b"null", b"1", b'"t"', b"[]", b"true"])
def test_a_body_that_is_no_object_is_refused(scalar: bytes) -> None:
    with pytest.raises(BadResponse, match="wrong_shape"):
        granted(scalar)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("0123-abcd", "0123-abcd"),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("", None),
        ("caf\xe9", None),
        ("a\tb", None),
        ("a\x1b[31m", None),
    ],
)
def test_a_request_id_is_kept_if_it_is_printable(header: str, kept: str | None) -> None:
    raw = b"HTTP/1.1 %s\r\nFinch-Request-Id: " + header.encode("latin-1")
    raw += b"\r\nContent-Length: %d\r\n\r\n%b"
    body = json.dumps(GRANT).encode()
    with OddServer(answering(raw % (b"200 OK", len(body), body))) as server:
        grant = exchanged(api_of(server))
    failing = OddServer(answering(raw % (b"500 Oops", 0, b"")))
    with failing as server, pytest.raises(ExchangeAmbiguous) as caught:
        exchanged(api_of(server))

    assert (grant.request_id, caught.value.request_id) == (kept, kept)


E1 = Entity(id="e1", name="Main", source_id="001", status="reauth")


@pytest.mark.parametrize(
    ("introspection", "state"),
    [
        (
            {
                "connection_status": {
                    "status": "error_reauth",
                    "message": "Sign\x1b in",
                    "last_successful_sync": "2026-01-02T03:04:05Z",
                },
                "entities": [
                    {"id": "e1", "name": "Main", "source_id": "001", "status": "error_reauth"},
                    {"id": "e2", "name": None, "status": 7},
                    {"id": None},
                    "e3",
                ],
            },
            {
                "status": "reauth",
                "status_message": "Sign in",
                "synced_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                "entities": (E1, Entity(id="e2")),
            },
        ),
        (
            {
                "connection_status": {
                    "status": "of_tomorrow",
                    "last_successful_sync": "2026-01-02",
                },
                "entity_ids": ["e1"],
            },
            {
                "status": "of_tomorrow",
                "status_message": None,
                "synced_at": datetime(2026, 1, 2, tzinfo=UTC),
                "entities": (Entity(id="e1"),),
            },
        ),
        (
            {"connection_status": {"status": "Reauth!", "last_successful_sync": "yesterday"}},
            {"status_message": None},
        ),
        ({"connection_status": "reauth", "entities": {}}, {"status_message": None}),
        ({}, {"status_message": None}),
    ],
)
def test_an_introspection_states_what_it_has_in_a_documented_form(
    introspection: dict[str, object], state: dict[str, object]
) -> None:
    assert read_state(introspection) == state
