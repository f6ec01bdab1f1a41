"""The records, and the rows that storages and files keep of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto.opened import Connection
from finch_middleware.records import (
    SealedToken,
    StoredConnection,
    connection_hash,
    customer_hash,
    row_from_json,
    row_to_json,
)
from finch_middleware.secret import Secret
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of

_texts = st.text(st.characters(exclude_categories=["Cs"]))
_keys = st.binary(min_size=32, max_size=32)
# Fixed offsets: Python holds no time of a skipped or repeated hour equal to one in UTC.
_offsets = st.integers(-14 * 60, 14 * 60).map(lambda late: timezone(timedelta(minutes=late)))
_naive_bound = datetime(1970, 1, 2, tzinfo=UTC).replace(tzinfo=None)
_instants = st.datetimes(min_value=_naive_bound, timezones=_offsets)
_sealed = st.builds(SealedToken, text=_texts.filter(bool))

_attempts = st.builds(
    Attempt,
    attempt_id=_texts,
    code_hash=_keys,
    flow_hash=st.none() | _keys,
    bound_to=st.lists(_keys).map(tuple),
    client_id=_texts,
    customer_ids=st.lists(_texts).map(tuple),
    state=st.sampled_from(AttemptState),
    reference=_texts,
    claimed_at=_instants,
    leased_until=_instants,
    settled_at=st.none() | _instants,
    customer_id=st.none() | _texts,
    connection_id=st.none() | _texts,
    return_to=st.none() | _texts,
    reason=st.none() | _texts,
    request_id=st.none() | _texts,
    sealed=st.none() | _sealed,
    notified=st.booleans(),
)
_connections = st.builds(
    StoredConnection,
    connection_id=_texts,
    customer_id=_texts,
    client_id=_texts,
    provider_id=_texts,
    products=st.lists(_texts).map(tuple),
    client_type=_texts,
    connection_type=_texts,
    status=st.none() | _texts,
    sealed=_sealed,
    obtained_at=_instants,
    attempt_id=_texts,
)


@given(_attempts)
def test_attempt_comes_back_from_a_line_of_json(attempt: Attempt) -> None:
    line = row_to_json(attempt.as_row())

    assert "\n" not in line
    assert line.isascii()
    back = Attempt.from_row(row_from_json(line))
    assert back == attempt
    assert {back.claimed_at.tzinfo, back.leased_until.tzinfo} == {UTC}


@given(_connections)
def test_connection_comes_back_from_a_line_of_json(connection: StoredConnection) -> None:
    assert StoredConnection.from_row(row_from_json(row_to_json(connection.as_row()))) == connection


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]x",
        '{"a": 1}',
        '{"a": {"at": 5}}',
        '{"a": {"at": "yesterday"}}',
        '{"a": {"bytes": "not base64!"}}',
        '{"a": ["list"]}',
    ],
)
def test_anything_but_a_row_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        row_from_json(line)


@given(_texts)
def test_keys_are_32_bytes_and_differ_by_purpose(text: str) -> None:
    assert len(connection_hash(text)) == len(customer_hash(text)) == 32
    assert connection_hash(text) != customer_hash(text)


@pytest.mark.parametrize(
    ("text", "key_id"),
    [
        ("fm1.k1.c2VhbGVk", "k1"),
        ("fm1..c2VhbGVk", ""),
        ("c2VhbGVk", ""),
        ("fm1.k1", ""),
        ("fm1.k1.c2Vh.bGVk", ""),
    ],
)
def test_sealed_token_names_its_key_or_none(text: str, key_id: str) -> None:
    assert SealedToken(text=text).key_id == key_id


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        (AttemptState.CLAIMED, False),
        (AttemptState.STORED, True),
        (AttemptState.QUARANTINED, True),
        (AttemptState.FAILED, False),
        (AttemptState.AMBIGUOUS, False),
    ],
)
def test_each_state_holds_a_token_or_not(state: AttemptState, holds: bool) -> None:
    assert state.holds_token is holds


def test_settled_attempt_keeps_its_id() -> None:
    later = NOON + timedelta(seconds=2)

    done = an_attempt().settled(AttemptState.FAILED, at=later, reason="code_rejected")

    assert (done.state, done.settled_at, done.reason) == (
        AttemptState.FAILED,
        later,
        "code_rejected",
    )
    assert done.attempt_id == an_attempt().attempt_id


def test_request_with_one_of_the_bindings_repeats_the_attempt() -> None:
    attempt = an_attempt(bound_to=(key_of("ticket"), key_of("customer")))

    assert attempt.repeats((key_of("other"), key_of("customer")))
    assert not attempt.repeats((key_of("other"),))
    assert not attempt.repeats(())


def _connection(opened: list[str]) -> Connection:
    def open_() -> Secret:
        opened.append("opened")
        return Secret('{"access_token": "canary", "entity_ids": ["1"], "tomorrow": {"a": null}}')

    return Connection.of(a_connection(status="pending"), open_)


def test_access_token_is_opened_when_revealed_and_not_before() -> None:
    opened: list[str] = []
    connection = _connection(opened)

    shown = f"{connection!r} {connection.access_token!r}"
    before = list(opened)
    token = connection.access_token.reveal()

    assert "canary" not in shown
    assert before == []
    assert token == "canary"
    assert opened == ["opened"]


def test_details_of_a_connection_hold_everything_but_the_token() -> None:
    details = _connection([]).details()

    assert details == {"entity_ids": ["1"], "tomorrow": {"a": None}}


def test_connection_has_the_values_of_its_row() -> None:
    stored, connection = a_connection(status="pending"), _connection([])

    names = {each.name for each in dataclasses.fields(connection)} - {"access_token"}

    assert {name: getattr(connection, name) for name in names} == {
        name: getattr(stored, name) for name in names
    }


def test_customers_of_a_connection_are_found_by_a_key_of_their_own() -> None:
    row = a_connection("acme", customer_id="acme").as_row()

    assert row["connection_hash"] != row["customer_hash"]
