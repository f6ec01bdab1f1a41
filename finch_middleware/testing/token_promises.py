"""The part of `StorageContract` about tokens: scanned and replaced many at a time, in shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from finch_middleware.records import StoredToken, connection_hash
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.shards import Shard
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    keep,
    scanned,
    sealed,
)

_THREADS = 16
_COUNT = 8


class TokenPromises:
    """Ciphertexts, and the shards of a long task."""

    @pytest.mark.parametrize("limit", [1, 3, 10, 1000])
    def test_scan_of_tokens_sees_each_once_and_none_that_ended(
        self, storage: Storage, limit: int
    ) -> None:
        stored = [a_connection(f"{i}", sealed=sealed(f"{i}")) for i in range(10)]
        keep(storage, *stored)
        storage.delete(stored[4], at=NOON + timedelta(hours=1))

        seen = scanned(storage.scan_tokens, limit=limit)

        expected = [StoredToken.of(each) for each in stored if each.connection_id != "4"]
        assert sorted(seen, key=lambda each: each.connection_id) == expected

    def test_scan_of_tokens_keeps_its_place_while_others_change(self, storage: Storage) -> None:
        stays = [f"stays {i}" for i in range(8)]
        keep(storage, *(a_connection(each) for each in stays))
        seen: list[str] = []
        after: object | None = None

        for turn in range(30):
            batch = storage.scan_tokens(after=after, limit=2)
            changes = [(each, sealed(f"{turn}")) for each in batch.rows]
            assert all(storage.swap_tokens(changes))
            seen += [each.connection_id for each in batch.rows]
            after = batch.after
            if after is None:
                break
            keep(storage, a_connection(f"comes {turn}"))
            storage.delete(a_connection(f"comes {turn - 1}"), at=NOON + timedelta(hours=1))

        assert sorted(each for each in seen if each in stays) == sorted(stays)
        assert len(seen) == len(set(seen))

    def test_shards_are_disjoint_and_complete(self, storage: Storage) -> None:
        names = sorted(f"connection {i}" for i in range(40))
        keep(storage, *(a_connection(each) for each in names))
        shards = [Shard(number=i + 1, count=_COUNT) for i in range(_COUNT)]

        rows = [scanned(storage.scan, limit=3, shard=each) for each in shards]
        tokens = [scanned(storage.scan_tokens, limit=3, shard=each) for each in shards]

        found = [sorted(each.connection_id for each in part) for part in rows]
        assert sorted(name for part in found for name in part) == names
        assert [sorted(each.connection_id for each in part) for part in tokens] == found
        for shard, part in zip(shards, found, strict=True):
            assert all(shard.before < connection_hash(name) <= shard.last for name in part)

    def test_swap_of_tokens_changes_nothing_else(self, storage: Storage) -> None:
        stored = [a_connection(f"{i}", status=f"status {i}") for i in range(3)]
        keep(storage, *stored)

        done = storage.swap_tokens(
            [(StoredToken.of(each), sealed(f"\x01, {each.connection_id}")) for each in stored]
        )

        assert list(done) == [True] * 3
        for each in stored:
            renewed = sealed(f"\x01, {each.connection_id}")
            expected = dataclasses.replace(each, sealed=renewed)
            assert storage.get(each.connection_id) == expected
        assert list(storage.swap_tokens([])) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"sealed": sealed("other")},
            {"sealed": sealed("C2VHBGVK")},
            {"sealed": sealed("c2VhbGVk ")},
            {"sealed": sealed("c2VhbGVk"), "connection_id": "another"},
        ],
        ids=["another token", "case", "trailing space", "gone"],
    )
    def test_swap_of_tokens_leaves_a_changed_one(
        self, storage: Storage, change: dict[str, Any]
    ) -> None:
        changed, other = a_connection(**change), a_connection("other")
        keep(storage, changed, other)

        done = storage.swap_tokens(
            [(StoredToken.of(each), sealed("new")) for each in (a_connection(), other)]
        )

        assert list(done) == [False, True]
        assert storage.get(changed.connection_id) == changed
        assert storage.get("other") == dataclasses.replace(other, sealed=sealed("new"))

    def test_of_many_racing_swaps_of_tokens_exactly_one_wins(self, storage: Storage) -> None:
        old = [a_connection(f"{i}") for i in range(5)]
        keep(storage, *old)
        tokens = [StoredToken.of(each) for each in old]
        racing = [[(each, sealed(f"{i}")) for each in tokens] for i in range(_THREADS)]

        results = all_at_once(lambda changes: list(storage.swap_tokens(changes)), racing)

        for place, each in enumerate(old):
            [winner] = [i for i, done in enumerate(results) if done[place]]
            expected = dataclasses.replace(each, sealed=sealed(f"{winner}"))
            assert storage.get(each.connection_id) == expected

    def test_newer_token_outlives_a_racing_swap(self, storage: Storage) -> None:
        for turn in range(5):
            old = a_connection(f"{turn}")
            keep(storage, old)
            later = NOON + timedelta(seconds=1)
            newer = dataclasses.replace(old, obtained_at=later, sealed=sealed("newer"))
            change = [(StoredToken.of(old), sealed("resealed"))]

            race: list[Callable[[], object]] = [
                partial(keep, storage, newer),
                partial(storage.swap_tokens, change),
            ]
            all_at_once(lambda work: work(), race)

            assert storage.get(old.connection_id) == newer
