"""The part of `StorageContract` about Finch's events: recorded, applied, kept for later."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from operator import methodcaller

import pytest

from finch_middleware.records import Entity
from finch_middleware.storage.events import StoredEvent
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    an_event,
    keep,
    sealed,
)

_THREADS = 64
_ROUNDS = 3
_TOKEN = a_connection(checked_at=None, entities=(Entity(id="e1"), Entity(id="e2")))


def _stored(name: str, **changes: object) -> StoredEvent:
    event = StoredEvent(event_id=name, received_at=NOON, delivered=False)
    return replace(event, **changes)  # type: ignore[arg-type]


class EventPromises:
    """Events, and connections that only they have named."""

    # Records

    def test_recorded_event_comes_back(self, storage: Storage) -> None:
        for event in (_stored("one"), _stored("two 👩 '", delivered=True)):
            assert storage.event(event.event_id) is None
            assert storage.record(event) is None
            assert storage.event(event.event_id) == event

    @pytest.mark.parametrize("other", ["ONE", "one ", "óne", "on", "one\n", ""])
    def test_events_are_distinguished_by_every_letter(self, storage: Storage, other: str) -> None:
        storage.record(_stored("one"))

        assert storage.record(_stored(other)) is None
        assert storage.event("one") == _stored("one")

    def test_repeated_event_gets_the_first_record(self, storage: Storage) -> None:
        first, later = _stored("one"), _stored("one", received_at=NOON + timedelta(hours=1))
        storage.record(first)

        assert storage.record(later) == first
        assert storage.event("one") == first

    def test_event_becomes_delivered_and_stays_so(self, storage: Storage) -> None:
        storage.mark_delivered(an_event())
        assert storage.event(an_event().event_id) is None

        storage.receive(an_event())
        storage.mark_delivered(an_event())
        storage.mark_delivered(an_event())

        stored = storage.event(an_event().event_id)
        assert stored is not None
        assert stored.delivered is True
        assert storage.record(replace(stored, delivered=False)) == stored
        assert storage.event(stored.event_id) == stored

    def test_of_many_racing_records_exactly_one_is_the_first(self, storage: Storage) -> None:
        storage.check()
        for turn in range(_ROUNDS):
            results = all_at_once(storage.record, [_stored(f"{turn}")] * _THREADS)

            assert results.count(None) == 1

    def test_old_events_and_announcements_are_forgotten(self, storage: Storage) -> None:
        keep(storage, _TOKEN)
        storage.delete(_TOKEN, at=NOON)
        keep(storage, a_connection("kept"))
        for minute, name in enumerate(["old", "new"]):
            storage.receive(an_event(minute, connection_id=name))
        edge = an_event(1).received_at

        gone = sum(iter(partial(storage.forget_events, received_before=edge), 0))

        assert gone == 2
        assert storage.event(an_event(0).event_id) is None
        assert storage.event(an_event(1).event_id) is not None
        assert storage.row("old") is None
        assert storage.row("new") is not None
        assert storage.get("kept") == a_connection("kept")
        keep(storage, _TOKEN)
        assert storage.get("connection") is None

    # Rows without a token

    def test_row_is_inserted_only_where_there_is_none(self, storage: Storage) -> None:
        assert storage.row("connection") is None
        assert storage.swap(None, _TOKEN) is True
        assert storage.swap(None, a_connection(status="other")) is False
        assert storage.row("connection") == storage.get("connection") == _TOKEN
        assert list(storage.scan(after=None, limit=10).rows) == [_TOKEN]

    def test_of_many_racing_insertions_exactly_one_wins(self, storage: Storage) -> None:
        storage.check()
        for turn in range(_ROUNDS):
            rows = [a_connection(f"{turn}", status=f"{i}") for i in range(_THREADS)]

            results = all_at_once(partial(storage.swap, None), rows)

            assert results.count(True) == 1
            assert storage.get(f"{turn}") == rows[results.index(True)]

    def test_announced_connection_is_seen_by_nobody(self, storage: Storage) -> None:
        received = storage.receive(an_event(status="pending"))

        row = storage.row("connection")
        assert row is not None
        assert (row.status, row.has_token, row.is_announced) == ("pending", False, True)
        assert (received.before, received.after, received.undecided) == (None, row, False)
        assert storage.get("connection") is None
        assert list(storage.for_customer("")) == []
        assert list(storage.scan(after=None, limit=10).rows) == []
        assert list(storage.scan_tokens(after=None, limit=10).rows) == []

    def test_row_without_a_token_is_read_after_its_end_too(self, storage: Storage) -> None:
        keep(storage, _TOKEN)
        storage.delete(_TOKEN, at=NOON)

        row = storage.row("connection")
        assert row is not None
        assert row.has_ended
        assert storage.receive(an_event(60)).after == row
        assert storage.row("connection") == row

    def test_announced_word_is_joined_when_the_connection_is_stored(self, storage: Storage) -> None:
        storage.receive(an_event(-1, status="pending"))
        storage.receive(an_event(-2, status="connected", entity_id="e2"))
        # A token that waited in the spool is older than the announcement.
        token = replace(_TOKEN, obtained_at=NOON - timedelta(minutes=10))

        keep(storage, token)

        stored = storage.get("connection")
        assert stored is not None
        assert (stored.status, *(each.status for each in stored.entities)) == (
            *("pending", None, "connected"),
        )
        assert stored.sealed == token.sealed
        assert list(storage.for_customer("acme")) == [stored]
        assert list(storage.scan(after=None, limit=10).rows) == [stored]
        assert storage.forget_events(received_before=NOON + timedelta(days=9)) == 2
        assert storage.get("connection") == stored

    # Receive

    def test_received_event_changes_the_connection_once(self, storage: Storage) -> None:
        keep(storage, _TOKEN)
        event = an_event(10, status="reauth")

        first, again = storage.receive(event), storage.receive(event)

        stored = storage.get("connection")
        assert stored is not None
        assert (stored.status, stored.heard_at) == ("reauth", event.occurred_at)
        assert (first.first, first.delivered, first.before, first.after) == (
            *(True, False, _TOKEN, stored),
        )
        assert (again.first, again.delivered, again.after) == (False, False, stored)
        storage.mark_delivered(event)
        assert storage.receive(event).delivered is True

    def test_event_that_only_finch_can_decide_stays_undecided(self, storage: Storage) -> None:
        keep(storage, replace(_TOKEN, status="connected"))

        received = storage.receive(an_event(-10, status="reauth"), delivered=True)

        assert received.undecided is True
        assert (received.first, received.delivered) == (True, True)
        row = storage.get("connection")
        assert row is not None
        assert (row.status, row.undecided_at) == ("connected", an_event(-10).received_at)
        assert storage.receive(an_event(-10, status="reauth")).undecided is True

    @pytest.mark.parametrize("changes", [{"status": None}, {"connection_id": None}])
    def test_event_without_a_word_or_a_connection_is_only_recorded(
        self, storage: Storage, changes: dict[str, None]
    ) -> None:
        received = storage.receive(an_event(**changes))

        assert (received.first, received.before, received.after) == (True, None, None)
        assert storage.event(an_event().event_id) is not None
        assert storage.row("connection") is None

    def test_of_many_deliveries_of_one_event_one_is_the_first(self, storage: Storage) -> None:
        storage.check()
        for turn in range(_ROUNDS):
            event = an_event(turn, status="reauth", connection_id=f"{turn}")

            results = all_at_once(storage.receive, [event] * _THREADS)

            assert [each.first for each in results].count(True) == 1
            row = storage.row(f"{turn}")
            assert row is not None
            assert (row.status, row.undecided_at) == ("reauth", None)

    def test_events_that_race_each_other_and_the_token_leave_one_state(
        self, storage: Storage
    ) -> None:
        storage.check()
        for turn in range(_ROUNDS):
            self._race([storage], turn)

    def test_events_that_race_over_many_handles_leave_one_state(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        handles = [storage, reopen(), reopen()]
        for each in handles:
            each.check()
        self._race(handles, 0)

        for each in handles[1:]:
            each.close()

    def _race(self, handles: list[Storage], turn: int) -> None:
        name = f"connection {turn}"
        token = replace(_TOKEN, connection_id=name)
        words = ["pending", "reauth", "connected", "disconnected", "connected", "odd"]
        events = [
            an_event(100 * turn + at + minute, status=word, connection_id=name, entity_id=entity_id)
            for at, entity_id in ((10, None), (20, "e1"))
            for minute, word in enumerate(words)
        ]
        works: list[Callable[[Storage], object]] = [methodcaller("receive", e) for e in events]
        works.append(lambda handle: keep(handle, token))
        random.shuffle(works)

        all_at_once(lambda i: works[i](handles[i % len(handles)]), range(len(works)))

        row = handles[0].get(name)
        assert row is not None
        assert (row.status, row.heard_at) == ("odd", events[5].occurred_at)
        one = Entity(id="e1", status="odd", heard_at=events[-1].occurred_at)
        assert row.entities == (one, Entity(id="e2"))
        assert row.sealed == sealed()
