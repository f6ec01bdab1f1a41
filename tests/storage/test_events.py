"""What an event changes in a row, and what a row keeps when its connection is stored."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import Entity, StoredConnection
from finch_middleware.storage.events import FinchEvent, StoredEvent, apply_event
from finch_middleware.storage.history import SKEW, join
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_event

WORDS = ("connected", "pending", "processing", "reauth", "disconnected", "error_permissions", "odd")
#: A token of noon without any state, as the exchange stores it.
TOKEN = a_connection(checked_at=None, synced_at=None, entities=(Entity(id="e1"), Entity(id="e2")))


def heard(row: StoredConnection | None, *events: FinchEvent) -> StoredConnection:
    for event in events:
        row = apply_event(row, event)
    assert row is not None
    return row


def test_the_second_of_an_event_is_in_its_id() -> None:
    published = FinchEvent(
        event_id="msg_2Lh9KRb0pzN4LePd3XiA4v12Axj",
        connection_id=None,
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    assert published.occurred_at == datetime.fromtimestamp(1676312382, UTC)
    assert an_event(3).occurred_at == (NOON + timedelta(minutes=3)).replace(microsecond=0)


@pytest.mark.parametrize(
    "event",
    [
        an_event(None),
        an_event(event_id="msg_" + "é" * 27),
        an_event(event_id="msg_" + "z" * 27),
        an_event(10, received_at=NOON),
        an_event(event_id=""),
    ],
    ids=["no KSUID", "other letters", "a far future", "a future", "empty"],
)
def test_an_id_without_a_credible_second_has_none(event: FinchEvent) -> None:
    assert event.occurred_at is None


#: The status of the row, when it was heard and asked about (minutes after the token), the event's
#: minute and word: the status after it, and whether Finch has to be asked.
APPLIED: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], tuple[str | None, bool]]] = {
    "a later word": ((None, None, None), (10, "reauth"), ("reauth", False)),
    "a later end": (("connected", 8, None), (10, "disconnected"), ("disconnected", False)),
    "a word after a word": (("reauth", 8, None), (10, "connected"), ("connected", False)),
    "a word of the same second": (("reauth", 10, None), (10, "connected"), ("reauth", True)),
    "a word before a word": (("reauth", 10, None), (9, "connected"), ("reauth", True)),
    "the same word before": (("reauth", 10, None), (9, "reauth"), ("reauth", False)),
    "a loss before the token": (("connected", None, None), (-9, "reauth"), ("connected", True)),
    "a loss within the skew": (("connected", None, None), (4, "error_x"), ("connected", True)),
    "a loss, nothing known": ((None, None, None), (-1, "reauth"), (None, True)),
    "a word before the token": ((None, None, None), (-1, "pending"), ("pending", False)),
    "an unknown word": ((None, None, None), (-1, "odd"), ("odd", False)),
    "older than an unused word": ((None, 3, None), (2, "pending"), (None, True)),
    "before the introspection": (("connected", None, 60), (59, "reauth"), ("connected", True)),
    "after the introspection": (("connected", None, 60), (66, "reauth"), ("reauth", False)),
    "no time, nothing known": ((None, None, None), (None, "connected"), ("connected", False)),
    "no time, a loss": ((None, None, None), (None, "reauth"), (None, True)),
    "no time, a word known": (("pending", None, None), (None, "reauth"), ("pending", True)),
    "no time, a second known": ((None, 3, None), (None, "connected"), (None, True)),
}


@pytest.mark.parametrize("entity_id", [None, "e1"])
@pytest.mark.parametrize(("known", "event", "expected"), APPLIED.values(), ids=APPLIED)
def test_a_word_is_applied_where_nothing_newer_is_known(
    known: tuple[Any, ...],
    event: tuple[Any, ...],
    expected: tuple[str | None, bool],
    entity_id: str | None,
) -> None:
    word, heard_at, checked_at = known
    second = NOON + timedelta(minutes=heard_at) if heard_at is not None else None
    state: dict[str, Any] = {"status": word, "heard_at": second and second.replace(microsecond=0)}
    asked = NOON + timedelta(minutes=checked_at) if checked_at is not None else None
    row = replace(TOKEN, checked_at=asked)
    one, two = row.entities
    row = (
        replace(row, entities=(replace(one, **state), two)) if entity_id else replace(row, **state)
    )
    minute, new_word = event

    after = heard(row, an_event(minute, status=new_word, entity_id=entity_id))

    changed, untouched = (after.entities[0], after) if entity_id else (after, after.entities[0])
    assert (changed.status, after.undecided_at is not None) == expected
    assert untouched.status is None
    assert after.entities[1] == two


@pytest.mark.parametrize("status", [None, "reauth"])
def test_an_event_without_a_word_or_for_an_ended_connection_changes_nothing(
    status: str | None,
) -> None:
    ended = TOKEN.tombstone(at=NOON)

    assert apply_event(ended, an_event(60, status=status)) == ended
    assert apply_event(TOKEN, an_event(60, status=None)) == TOKEN
    assert apply_event(None, an_event(60, status=None)) is None
    assert apply_event(None, an_event(60, connection_id=None)) is None


def test_a_new_word_drops_the_explanation_of_the_old_one() -> None:
    row = replace(TOKEN, status="reauth", status_message="Sign in again.")

    assert heard(row, an_event(10)).status_message is None
    assert heard(row, an_event(10, status="reauth")).status_message == "Sign in again."
    assert join(replace(TOKEN, attempt_id="later"), replace(row, status="pending")) == replace(
        TOKEN, attempt_id="later", status="pending", status_message="Sign in again."
    )


@pytest.mark.parametrize(("minute", "added"), [(10, True), (4, False), (None, False)])
def test_an_entity_that_the_token_did_not_name_is_added_if_it_is_newer(
    minute: int | None, added: bool
) -> None:
    event = an_event(minute, entity_id="e3")

    stored = heard(TOKEN, event)
    waited = join(TOKEN, heard(None, event))

    assert waited is not None
    for row in (stored, waited):
        assert [each.id for each in row.entities] == ["e1", "e2"] + ["e3"] * added
        assert (row.undecided_at is None) is (added or (row is waited and minute == 4))


def test_a_renewed_token_keeps_names_and_what_it_does_not_refute() -> None:
    before = replace(
        TOKEN,
        status="reauth",
        entities=(
            Entity(id="e1", name="Acme", source_id="7", status="connected"),
            Entity(id="e2", name="Other", status="disconnected"),
            Entity(id="e3", name="Removed", status="connected"),
        ),
    )
    renewed = replace(TOKEN, obtained_at=NOON + timedelta(days=1), attempt_id="renewed")

    assert join(renewed, before) == replace(
        renewed,
        entities=(
            Entity(id="e1", name="Acme", source_id="7", status="connected"),
            Entity(id="e2", name="Other"),
        ),
    )
    assert join(before, renewed) is None
    assert join(renewed, TOKEN.tombstone(at=NOON)) == renewed
    assert join(renewed, replace(before, customer_id="another")) == renewed
    assert join(renewed, None) == renewed


@pytest.mark.parametrize(
    ("after", "word", "asked"),
    [
        (SKEW + timedelta(seconds=1), "reauth", False),
        (SKEW, None, True),
        (-SKEW, None, True),
        (-SKEW - timedelta(seconds=1), None, False),
    ],
    ids=str,
)
def test_a_token_refutes_a_loss_unless_finch_reported_it_later(
    after: timedelta, word: str | None, asked: bool
) -> None:
    before = replace(TOKEN, status="reauth", heard_at=NOON + after)

    joined = join(replace(TOKEN, attempt_id="later"), before)

    assert joined is not None
    assert (joined.status, joined.heard_at) == (word, NOON + after)
    assert (joined.undecided_at is not None) is asked


def test_a_token_with_a_status_keeps_it() -> None:
    new = replace(TOKEN, attempt_id="later", status="connected")

    assert join(new, replace(TOKEN, status="pending", heard_at=NOON)) == new


_EVENTS = [
    an_event(6, status="pending"),
    an_event(7, status="error_permissions"),
    an_event(8, status="connected", entity_id="e1"),
    an_event(9, status="connected"),
    an_event(10, status="reauth", entity_id="e1"),
]


@pytest.mark.parametrize("token_at", [0, 5, 7, 9, 11])
def test_every_order_of_six_gives_the_same_state_once_finch_was_asked(token_at: int) -> None:
    """Five events and the token: where a word was not applied, Finch is asked."""
    token = replace(TOKEN, obtained_at=NOON + timedelta(minutes=token_at))
    states = set()
    for order in itertools.permutations([*_EVENTS, None]):
        row: StoredConnection | None = None
        for event in order:
            row = join(token, row) if event is None else apply_event(row, event)
        assert row is not None
        asked = row.undecided_at is not None
        one = row.entities[0]
        words = ("connected", "reauth") if asked else (row.status, one.status)
        states.add((words, tuple(each.id for each in row.entities), row.entities[1]))

    assert states == {(("connected", "reauth"), ("e1", "e2"), Entity(id="e2"))}


def test_every_order_of_later_events_gives_the_same_words_without_asking() -> None:
    events = [*_EVENTS, an_event(11, status="disconnected", entity_id="e2")]

    rows = {
        replace(heard(TOKEN, *order), undecided_at=None) for order in itertools.permutations(events)
    }

    [row] = rows
    assert (row.status, *(each.status for each in row.entities)) == (
        *("connected", "reauth", "disconnected"),
    )


_events = st.builds(
    an_event,
    st.none() | st.integers(-20, 20),
    status=st.sampled_from(WORDS),
    entity_id=st.sampled_from([None, "e1", "e3"]),
)


@given(st.lists(_events, max_size=6), st.integers(0, 6))
def test_no_loss_from_before_a_token_is_ever_applied_to_it(
    events: list[FinchEvent], place: int
) -> None:
    row: StoredConnection | None = None
    for event in events[:place]:
        row = apply_event(row, event)
    row = heard(join(TOKEN, row), *events[place:])

    for each in (row, *row.entities):
        if each.status in ("reauth", "disconnected", "error_permissions"):
            assert each.heard_at is not None
            assert each.heard_at > NOON + SKEW
    assert row.has_token
    assert StoredConnection.from_row(row.as_row()) == row


@given(st.lists(_events, min_size=1, max_size=6))
def test_the_same_events_again_change_nothing_more(events: list[FinchEvent]) -> None:
    once = heard(TOKEN, *events)

    again = heard(once, *events)

    assert replace(again, undecided_at=None) == replace(once, undecided_at=None)


def test_a_recorded_event_that_is_none_of_ours_is_unreadable() -> None:
    row = StoredEvent(event_id="msg", received_at=NOON, delivered=True).as_row()

    assert (
        StoredEvent.from_row({**row, "received_at": NOON.replace(tzinfo=None)}).received_at == NOON
    )
    with pytest.raises(StorageUnavailable, match="unreadable"):
        StoredEvent.from_row({**row, "received_at": "noon"})


def test_an_event_that_never_gets_its_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    storage.swap(None, a_connection())
    monkeypatch.setattr(storage, "swap", lambda old, new: False)

    with pytest.raises(StorageUnavailable, match="busy"):
        storage.receive(an_event(5, status="pending"))
