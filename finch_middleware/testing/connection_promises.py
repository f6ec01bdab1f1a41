"""The part of `StorageContract` about connections: found, listed, scanned, swapped, deleted."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from finch_middleware.records import history_line
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    keep,
    scanned,
    sealed,
)

_THREADS = 16
_ROUNDS = 5
_END = NOON + timedelta(hours=1)


class ConnectionPromises:
    """Stored connections."""

    def test_unknown_connection_is_none(self, storage: Storage) -> None:
        assert storage.get("unknown") is None
        assert list(storage.for_customer("unknown")) == []

    def test_connections_of_a_customer_come_newest_first(self, storage: Storage) -> None:
        stored = [
            a_connection(f"connection {i}", obtained_at=NOON + timedelta(seconds=i * 3 % 5))
            for i in range(5)
        ]
        keep(storage, *stored)

        mine = storage.for_customer("acme")

        assert list(mine) == sorted(stored, key=lambda each: each.obtained_at, reverse=True)

    @pytest.mark.parametrize("other", ["ACME", "acme ", " acme", "ácme", "acm", "acme\n", ""])
    def test_customers_are_distinguished_by_every_letter(
        self, storage: Storage, other: str
    ) -> None:
        keep(storage, a_connection(other, customer_id=other))
        keep(storage, a_connection("acme"))

        assert list(storage.for_customer("acme")) == [a_connection("acme")]
        assert storage.get("acme") == a_connection("acme")
        assert storage.get(other) == a_connection(other, customer_id=other)

    # Delete

    def test_deleted_connection_is_gone_everywhere(self, storage: Storage) -> None:
        one, two = a_connection("one"), a_connection("two")
        keep(storage, one, two)

        assert storage.delete(one, at=_END) is True
        assert storage.delete(one, at=_END) is False
        assert storage.get("one") is None
        assert list(storage.for_customer("acme")) == [two]
        assert list(storage.for_customer("")) == []
        assert list(storage.scan(after=None, limit=10).rows) == [two]
        assert list(storage.scan(after=None, limit=1).rows) == [two]

    def test_only_the_row_that_was_read_is_deleted(self, storage: Storage) -> None:
        renewed = a_connection(obtained_at=NOON + timedelta(seconds=1), sealed=sealed("renewed"))
        keep(storage, renewed)

        assert storage.delete(a_connection(), at=_END) is False
        assert storage.get("connection") == renewed
        assert storage.delete(a_connection("unknown"), at=_END) is False
        keep(storage, a_connection("unknown"))
        assert storage.get("unknown") == a_connection("unknown")

    @pytest.mark.parametrize(
        ("obtained_at", "stored"),
        [
            (NOON - timedelta(days=1), False),
            (NOON, False),
            (NOON + timedelta(minutes=1), False),
            (_END, False),
            (_END + timedelta(seconds=2), True),
        ],
        ids=["older", "the same", "renewed before the end", "at the end", "after the end"],
    )
    @pytest.mark.parametrize("attempt_id", ["attempt-connection", "another"])
    def test_token_from_before_the_end_does_not_bring_a_connection_back(
        self, storage: Storage, obtained_at: datetime, stored: bool, attempt_id: str
    ) -> None:
        keep(storage, a_connection())
        storage.delete(a_connection(), at=_END)
        storage.forget(settled_before=_END + timedelta(days=1000))
        waited = a_connection(obtained_at=obtained_at, attempt_id=attempt_id)

        keep(storage, waited)

        assert storage.get("connection") == (waited if stored else None)
        assert list(storage.for_customer("acme")) == ([waited] if stored else [])
        found = storage.scan(after=None, limit=10).rows
        assert list(found) == ([waited] if stored else [])

    def test_end_by_a_clock_behind_covers_the_token_that_was_read(self, storage: Storage) -> None:
        keep(storage, a_connection())

        storage.delete(a_connection(), at=NOON - timedelta(hours=1))
        keep(storage, a_connection())

        assert storage.get("connection") is None

    def test_connection_is_never_back_when_its_end_races_an_older_token(
        self, storage: Storage
    ) -> None:
        for turn in range(_ROUNDS):
            row = a_connection(f"connection {turn}")
            keep(storage, row)
            late = dataclasses.replace(row, obtained_at=NOON + timedelta(seconds=1))

            ended, *_ = all_at_once(
                lambda work: work(),
                [partial(storage.delete, row, at=_END)]  # one of its own kind
                + [partial(keep, storage, late)] * 3,
            )

            assert storage.get(row.connection_id) == (None if ended else late)

    # History

    def test_history_is_one_over_all_tokens_until_it_is_forgotten_after_the_end(
        self, storage: Storage
    ) -> None:
        later = NOON + timedelta(minutes=1)
        lines = [history_line(at, "connected", customer_id="acme") for at in (NOON, later)]
        keep(
            storage,
            a_connection(history=lines[0]),
            a_connection(obtained_at=later, attempt_id="renewed", history=lines[1]),
        )

        renewed = storage.get("connection")
        assert renewed is not None
        assert (renewed.history, renewed.connected_at) == ("".join(lines), NOON)
        storage.delete(renewed, at=_END)
        ended = storage.row("connection")
        assert ended is not None
        assert ended.history == renewed.history
        assert list(storage.ended(before=_END)) == []
        assert list(storage.ended(before=_END + timedelta(seconds=2))) == [ended]
        assert [
            storage.forget_history(ended_before=_END + timedelta(seconds=2)) for _ in range(2)
        ] == [1, 0]
        assert storage.row("connection") == dataclasses.replace(ended, history="")

    # Scan

    @pytest.mark.parametrize("limit", [1, 3, 10, 11, 1000])
    def test_scan_in_batches_sees_each_connection_once(self, storage: Storage, limit: int) -> None:
        stored = {f"connection {i}" for i in range(10)}
        keep(storage, *(a_connection(each) for each in stored))

        seen = scanned(storage.scan, limit=limit)
        assert sorted(each.connection_id for each in seen) == sorted(stored)

    def test_scan_continues_after_a_deleted_connection(self, storage: Storage) -> None:
        keep(storage, *(a_connection(f"{i}") for i in range(5)))
        order = storage.scan(after=None, limit=5).rows
        batch = storage.scan(after=None, limit=3)
        storage.delete(order[2], at=_END)

        rest = storage.scan(after=batch.after, limit=5).rows

        assert list(rest) == list(order[3:])

    def test_scan_sees_each_connection_once_while_others_change(self, storage: Storage) -> None:
        stays = [f"stays {i}" for i in range(8)]
        keep(storage, *(a_connection(each) for each in stays))
        seen: list[str] = []
        after: object | None = None

        for turn in range(30):
            batch = storage.scan(after=after, limit=2)
            seen += [each.connection_id for each in batch.rows]
            after = batch.after
            if after is None:
                break
            keep(storage, a_connection(f"comes {turn}"))
            storage.delete(a_connection(f"comes {turn - 1}"), at=_END)

        assert sorted(each for each in seen if each in stays) == sorted(stays)
        assert len(seen) == len(set(seen))

    def test_swap_keeps_the_place_in_the_scan(self, storage: Storage) -> None:
        keep(storage, *(a_connection(f"{i}") for i in range(5)))
        before = storage.scan(after=None, limit=5).rows

        for each in before:
            storage.swap(each, dataclasses.replace(each, sealed=sealed("rotated")))

        after = storage.scan(after=None, limit=5).rows
        assert [each.connection_id for each in after] == [each.connection_id for each in before]
        assert {each.sealed for each in after} == {sealed("rotated")}

    # Swap

    def test_swap_replaces_an_unchanged_connection(self, storage: Storage) -> None:
        old, new = a_connection(), a_connection(status="reauth", sealed=sealed("new"))
        keep(storage, old)

        assert storage.swap(old, new) is True
        assert storage.get("connection") == new
        assert list(storage.for_customer("acme")) == [new]

    @pytest.mark.parametrize(
        "change",
        [
            {"status": "connected"},
            {"sealed": sealed("other")},
            {"sealed": sealed("C2VHBGVK")},
            {"obtained_at": NOON + timedelta(microseconds=1)},
            {"products": ("directory", "company")},
            {"provider_id": "gusto "},
            {"history": "a line"},
        ],
        ids=["status", "token", "case", "instant", "order", "trailing space", "history"],
    )
    def test_swap_leaves_a_changed_connection(
        self, storage: Storage, change: dict[str, Any]
    ) -> None:
        changed = a_connection(**change)
        keep(storage, changed)

        assert storage.swap(a_connection(), a_connection(status="reauth")) is False
        assert storage.get("connection") == changed

    def test_swap_without_a_connection_writes_nothing(self, storage: Storage) -> None:
        assert storage.swap(a_connection(), a_connection(status="reauth")) is False
        assert storage.get("connection") is None

    def test_of_many_racing_swaps_exactly_one_wins(self, storage: Storage) -> None:
        for turn in range(_ROUNDS):
            old = a_connection(f"connection {turn}")
            keep(storage, old)
            news = [dataclasses.replace(old, status=f"status {i}") for i in range(_THREADS)]

            results = all_at_once(partial(storage.swap, old), news)

            assert results.count(True) == 1
            assert storage.get(old.connection_id) == news[results.index(True)]
