"""A connection's history as text: what is kept, what is cut, what waits."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import StoredConnection, history_line
from finch_middleware.storage import history
from finch_middleware.storage.events import FinchEvent, apply_event
from finch_middleware.storage.history import HISTORY_LIMIT, join
from finch_middleware.testing.sample_records import NOON, a_connection

SECOND = timedelta(seconds=1)
CONNECTED = history_line(NOON, "connected", customer_id="acme", products=["company"])


def status(seconds: int, **facts: object) -> str:
    return history_line(NOON + seconds * SECOND, "status", after=f"word {seconds}", **facts)


def words(row: StoredConnection) -> list[str | None]:
    return [entry.after for entry in history.entries_of(row)]


def test_the_first_entry_and_the_newest_are_kept() -> None:
    row = a_connection(history=CONNECTED)

    for second in range(HISTORY_LIMIT + 5):
        row = history.noted(row, status(second))

    kept = words(row)
    assert len(kept) == HISTORY_LIMIT
    assert (kept[0], kept[1], kept[-1]) == (None, "word 6", f"word {HISTORY_LIMIT + 4}")
    assert row.connected_at == NOON


def test_what_is_old_goes_but_the_first_entry_and_what_waits() -> None:
    row = history.noted(a_connection(history=CONNECTED), status(1), status(3))
    row = history.noted(row, status(2), waits=True)

    left = history.without_old(row, before=NOON + 3 * SECOND)

    assert words(left) == [None, "word 3", "word 2"]
    assert history.without_old(a_connection(), before=NOON) == a_connection()
    assert [entry.after for entry in history.waiting(left)] == ["word 2"]
    assert not history.waits(history.none_waiting(left))
    assert words(history.none_waiting(left)) == words(left)


C, D, S = "connected", "disconnected", "status"


@pytest.mark.parametrize(
    ("events", "named", "ended"),
    [
        ([], [], False),
        ([C, S], [C, S], False),
        ([C, S, C, S, C], [C, S, "reauthenticated", S, "reauthenticated"], False),
        ([C, S, D], [C, S, D], True),
        ([C, D, S], [C, D, S], True),
        ([C, D, C], [C, D, C], False),
        ([C, D, S, C, C, D], [C, D, S, C, "reauthenticated", D], True),
    ],
)
def test_only_a_token_without_an_end_behind_it_is_replaced(
    events: list[str], named: list[str], ended: bool
) -> None:
    row = a_connection(status="disconnected")
    row = history.noted(row, *(history_line(NOON, event) for event in events))

    assert [entry.event for entry in history.entries_of(row)] == named
    assert history.ended_here(row) is ended
    assert not history.ended_here(dataclasses.replace(row, status="connected"))


def test_a_change_has_the_status_before_and_finchs_explanation() -> None:
    before = a_connection(status="connected", entities=())
    after = dataclasses.replace(before, status="reauth", status_message="Sign in again")

    noted = history.note_changes(before, after, source="refresh", at=NOON, waits=False)

    [entry] = history.entries_of(noted)
    assert (entry.before, entry.after, entry.message) == ("connected", "reauth", "Sign in again")
    assert list(history.changes(after, dataclasses.replace(after, status=None))) == []


@pytest.mark.parametrize(
    "text", ['","waits":true}', '"event":"disconnected"', "\n", "\u2028\ud800"]
)
def test_no_text_of_an_entry_can_pass_for_another(text: str) -> None:
    row = history.noted(a_connection(history=CONNECTED), status(1, message=text))

    assert not history.waits(row)
    assert not history.ended_here(row)
    assert history.entries_of(row)[1].message == text


@pytest.mark.parametrize("line", ["nonsense", NOON.isoformat() + " {", "yesterday {}", "\ud800"])
def test_an_altered_history_is_reported_and_saves_the_token(line: str) -> None:
    row = a_connection(history=CONNECTED + line + "\n")
    new = a_connection(obtained_at=NOON + SECOND, history=status(1))

    with pytest.raises(StorageUnavailable, match="unreadable"):
        history.entries_of(row)

    joined = join(new, row)
    assert joined is not None
    assert joined.history == row.history + new.history


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize(("customer_id", "kept"), [("acme", 2), ("acm", 1), ('acme"', 1)])
def test_only_its_customer_continues_a_history(customer_id: str, kept: int, ended: bool) -> None:
    row = a_connection(history=CONNECTED)
    before = row.tombstone(at=NOON) if ended else row
    line = history_line(NOON + 9 * SECOND, "connected", customer_id=customer_id)
    new = a_connection(customer_id=customer_id, obtained_at=NOON + 9 * SECOND, history=line)

    joined = join(new, before)

    assert joined is not None
    assert len(history.entries_of(joined)) == kept
    assert joined.connected_at == (NOON if kept == 2 else NOON + 9 * SECOND)


def test_an_announced_status_is_noted_behind_the_first_token() -> None:
    event = FinchEvent(event_id="e", connection_id="connection", status="pending", received_at=NOON)
    announced = apply_event(None, event)
    new = a_connection(obtained_at=NOON + SECOND, history=CONNECTED, entities=())

    joined = join(new, announced)

    assert joined is not None
    first, word = history.entries_of(joined)
    assert (first.event, word.source, word.after) == ("connected", "webhook", "pending")
    assert not history.waits(joined)
    assert announced is not None
    assert history.note_changes(announced, announced, source="webhook", at=NOON, waits=True) == (
        announced
    )
