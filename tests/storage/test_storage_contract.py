"""The contract itself: backends that break a promise fail it, and fail it every time."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.testing.storage_contract import StorageContract
from tests.waiting import wait_until

pytest_plugins = ["pytester"]

_ALWAYS = 5


class ChecksThenActs(MemoryStorage):
    """Looks, lets the others look, then writes what it decided: the habit that this is about."""

    def __init__(self, racers: int) -> None:
        super().__init__()
        self._looked = threading.Barrier(racers)

    def _let_others_look(self) -> None:
        # What a test prepares alone, in the main thread, is no race.
        if threading.current_thread() is not threading.main_thread():
            self._looked.wait(timeout=240)

    def claim(self, attempt: Attempt) -> Attempt | None:
        current = self.attempt(attempt.code_hash) or self._flow_holder(attempt)
        self._let_others_look()
        if current is None:
            self._attempts[attempt.code_hash] = attempt
        return current

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        if connection is not None:
            self._settle_connection(connection)
        holder, current = self._flow_holder(attempt), self.attempt(attempt.code_hash)
        self._let_others_look()
        if current is not None and current.state is not AttemptState.CLAIMED:
            return False
        if holder is None:
            self._attempts[attempt.code_hash] = attempt
        return True

    def _settle_connection(self, connection: StoredConnection) -> None:
        old = self.get(connection.connection_id)
        self._let_others_look()
        if old is None or old.obtained_at < connection.obtained_at:
            self._connections[connection_hash(connection.connection_id)] = connection

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        current = self.get(old.connection_id)
        self._let_others_look()
        if current != old:
            return False
        self._connections[connection_hash(old.connection_id)] = new
        return True


#: The cases that a backend which checks and then acts must lose, and how many threads each has.
RACES: dict[Callable[[StorageContract, Storage], None], int] = {
    StorageContract.test_of_many_racing_claims_exactly_one_wins: 32,
    StorageContract.test_of_many_codes_racing_for_a_flow_exactly_one_wins: 32,
    StorageContract.test_of_many_ends_racing_for_a_flow_exactly_one_gets_it: 16,
    StorageContract.test_a_token_racing_ambiguous_ends_is_kept: 4,
    StorageContract.test_of_many_racing_tokens_the_newest_is_kept: 16,
    StorageContract.test_of_many_racing_swaps_exactly_one_wins: 16,
}


@pytest.mark.parametrize(("race", "racers"), RACES.items(), ids=[race.__name__ for race in RACES])
def test_backend_that_checks_then_acts_loses_every_race(
    race: Callable[[StorageContract, Storage], None], racers: int
) -> None:
    for _ in range(_ALWAYS):
        # A lost race shows as a wrong answer, or as two winners where one was unpacked.
        with pytest.raises((AssertionError, ValueError)):
            race(StorageContract(), ChecksThenActs(racers))


class ForgetsEverything(MemoryStorage):
    def forget(self, *, settled_before: datetime) -> int:
        gone = len(self._attempts)
        self._attempts.clear()
        return gone


class RoundsInstants(MemoryStorage):
    def attempt(self, code_hash: bytes) -> Attempt | None:
        found = super().attempt(code_hash)
        if found is None:
            return None
        row = found.as_row() | {"claimed_at": found.claimed_at.replace(microsecond=0)}
        return Attempt.from_row(row)


class ReleasesAnything(MemoryStorage):
    def release(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.code_hash, None)


class IgnoresCase(MemoryStorage):
    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        stored = self.scan(after=None, limit=100).rows
        return [each for each in stored if each.customer_id.lower() == customer_id.lower()]


class CutsTexts(MemoryStorage):
    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        reference = attempt.reference.partition("\x00")[0]
        return super().settle(dataclasses.replace(attempt, reference=reference), connection)


class ForgetsItsPlace(MemoryStorage):
    """Scans by numbers of rows, whose places change while others come and go."""

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start = self._place_of(after) if after else 0
        if start:
            # The test's other thread writes on and on.
            wait_until(lambda: self._place_of(after) != start)
        rows = super().scan(after=None, limit=1000).rows
        batch = rows[start:][:limit]
        return Scan(rows=batch, after=batch[-1].connection_id if batch else None)

    def _place_of(self, connection_id: str) -> int:
        rows = super().scan(after=None, limit=1000).rows
        ids = [each.connection_id for each in rows]
        return ids.index(connection_id) + 1 if connection_id in ids else 0


_ALONE = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:asyncio")

_CARELESS = """
import pytest
from finch_middleware.testing.storage_contract import StorageContract
from {module} import {name}

class TestIt(StorageContract):
    @pytest.fixture
    def storage(self):
        return {name}()
"""


@pytest.mark.parametrize(
    ("backend", "broken"),
    [
        (ForgetsEverything, "test_forget_removes_old_ends_and_no_pending_attempt*"),
        (RoundsInstants, "test_instants_come_back_equal_and_aware*"),
        (ReleasesAnything, "test_release_leaves_the_claim_of_another_attempt*"),
        (IgnoresCase, "test_customers_are_distinguished_by_every_letter*"),
        (CutsTexts, "test_text_with_a_nul_comes_back_whole_or_is_refused_whole*"),
        (ForgetsItsPlace, "test_scan_sees_each_connection_once_while_a_thread_writes*"),
    ],
)
def test_careless_backend_fails_the_contract(
    pytester: pytest.Pytester, backend: type[MemoryStorage], broken: str
) -> None:
    pytester.makepyfile(_CARELESS.format(module=__name__, name=backend.__name__))

    only = ("-k", broken.rstrip("*"))
    result = pytester.runpytest_inprocess(*_ALONE, *only)

    result.stdout.fnmatch_lines([f"FAILED *::TestIt::{broken}"])


@pytest.mark.full
def test_shared_backend_without_a_second_handle_fails_the_contract(
    pytester: pytest.Pytester,
) -> None:
    text = _CARELESS.format(module=__name__, name="MemoryStorage")
    pytester.makepyfile(text.replace("return MemoryStorage()", "return Shared()"))
    pytester.makeconftest("")
    with open(pytester.path / next(pytester.path.glob("test_*.py")).name, "a") as file:
        file.write("\n\nclass Shared(MemoryStorage):\n    in_process = False\n")

    result = pytester.runpytest_inprocess(*_ALONE, "-k", "handle")

    result.stdout.fnmatch_lines(["*must define the fixture `reopen`*"])


def test_class_without_a_storage_fails_the_contract(pytester: pytest.Pytester) -> None:
    text = _CARELESS.format(module=__name__, name="MemoryStorage")
    pytester.makepyfile(text.split("    @pytest.fixture")[0] + "    pass\n")

    result = pytester.runpytest_inprocess(*_ALONE, "-k", "first_claim")

    result.stdout.fnmatch_lines(["*must define the fixture `storage`*"])
