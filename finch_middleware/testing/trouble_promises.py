"""The part of `StorageContract` about processes, lost confirmations and unusual texts."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    an_attempt,
    an_event,
    keep,
    key_of,
    scanned,
)

_PROCESSES = 4
_CODES = 20
_PATIENCE_SECONDS = 240
_STORED = AttemptState.STORED
_WORDS = ("pending", "connected", "reauth", "connected", "disconnected", "odd")
_EVENTS = [an_event(10 + minute, status=word) for minute, word in enumerate(_WORDS)]


class TroublePromises:
    """Several processes, lost confirmations and lost connections."""

    @pytest.fixture
    def unconfirmed(self) -> Callable[[], AbstractContextManager[None]]:
        """Optional: within it, commits succeed but their confirmations are lost."""
        pytest.skip("no fixture `unconfirmed` is defined")

    @pytest.fixture
    def cut_connections(self) -> Callable[[], None]:
        """Optional: ends every connection of the storage from the server's side."""
        pytest.skip("no fixture `cut_connections` is defined")

    # Processes

    def test_racing_processes_win_each_code_and_each_event_once(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        if storage.in_process:
            pytest.skip("this storage exists in one process only")
        _require_picklable(reopen)
        storage.check()
        # Its processes are forked from one that has no thread and loads our modules once.
        fork = get_context("forkserver")
        fork.set_forkserver_preload([__name__, reopen.__module__])

        with fork.Pool(_PROCESSES, _meet_at, [fork.Barrier(_PROCESSES)]) as pool:
            results = pool.starmap(
                _claims, [(reopen, f"process {i}") for i in range(_PROCESSES)], chunksize=1
            )

        once = [sum(won) for won in zip(*results, strict=True)]
        assert once == [1] * (_CODES + len(_EVENTS))
        row = storage.get("connection")
        assert row is not None
        assert (row.status, row.heard_at) == (_EVENTS[-1].status, _EVENTS[-1].occurred_at)

    # Lost confirmations and connections

    def test_claim_whose_confirmation_was_lost_counts(
        self, storage: Storage, unconfirmed: Callable[[], AbstractContextManager[None]]
    ) -> None:
        mine = an_attempt(flow_hash=key_of("flow"))
        storage.check()

        with unconfirmed(), pytest.raises(StorageUnavailable):
            storage.claim(mine)

        assert storage.attempt(mine.code_hash) == mine
        assert storage.claim(an_attempt(attempt_id="second")) == mine

    def test_end_whose_confirmation_was_lost_may_be_written_again(
        self, storage: Storage, unconfirmed: Callable[[], AbstractContextManager[None]]
    ) -> None:
        storage.claim(an_attempt())
        done = an_attempt().settled(_STORED, at=NOON, connection_id="connection")

        with unconfirmed(), pytest.raises(StorageUnavailable):
            storage.settle(done, a_connection())
        again = storage.settle(done, a_connection())

        assert again is True
        assert storage.attempt(done.code_hash) == done
        assert storage.get("connection") == a_connection()

    def test_ended_connections_are_replaced(
        self, storage: Storage, cut_connections: Callable[[], None]
    ) -> None:
        mine = an_attempt()
        storage.claim(mine)

        cut_connections()
        with suppress(StorageUnavailable):
            storage.attempt(mine.code_hash)

        assert storage.attempt(mine.code_hash) == mine
        assert storage.claim(an_attempt(attempt_id="second")) == mine
        assert storage.claim(an_attempt("other")) is None

    # Texts that a database may refuse

    @pytest.mark.parametrize("text", ["\x00", "a\x00b", "ab\x00"])
    def test_text_with_a_nul_comes_back_whole_or_is_refused_whole(
        self, storage: Storage, text: str
    ) -> None:
        names = {"customer_id": text, "connection_id": text}
        kept = an_attempt(reference=text, return_to=text).settled(_STORED, at=NOON, **names)
        stored = a_connection(**names, status=text)

        taken = _taken(lambda: storage.settle(kept, stored))

        assert storage.attempt(kept.code_hash) == (kept if taken else None)
        assert storage.get(text) == (stored if taken else None)
        assert list(storage.for_customer(text)) == ([stored] if taken else [])
        assert storage.claim(an_attempt("next")) is None

    # A scan while others write

    def test_scan_sees_each_connection_once_while_a_thread_writes(self, storage: Storage) -> None:
        stays = [f"stays {i}" for i in range(12)]
        keep(storage, *map(a_connection, stays))

        with _writing(storage):
            scans = [scanned(storage.scan, limit=3) for _ in range(5)]

        for rows in scans:
            seen = [each.connection_id for each in rows]
            assert sorted(each for each in seen if each.startswith("stays")) == sorted(stays)
            assert len(seen) == len(set(seen))


def _require_picklable(reopen: Callable[[], Storage]) -> None:
    try:
        pickle.dumps(reopen)
    except (pickle.PicklingError, AttributeError, TypeError):
        pytest.skip("`reopen` cannot be pickled; use functools.partial(...)")


_together: Barrier


def _meet_at(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _claims(reopen: Callable[[], Storage], name: str) -> list[bool]:
    """For each code and event, whether this process was the first with it."""
    storage = reopen()
    storage.check()
    _together.wait(_PATIENCE_SECONDS)
    racing = (an_attempt(f"code {i}", attempt_id=name) for i in range(_CODES))
    won = [storage.claim(each) is None for each in racing]
    # Each process has an order of its own, and one of them stores the connection between.
    order = random.Random(name).sample(range(len(_EVENTS)), len(_EVENTS))
    first = {place: storage.receive(_EVENTS[place]).first for place in order[:3]}
    keep(storage, a_connection())
    first |= {place: storage.receive(_EVENTS[place]).first for place in order[3:]}
    return won + [first[place] for place in sorted(first)]


def _taken(write: Callable[[], object]) -> bool:
    try:
        write()
    except StorageUnavailable:
        return False
    return True


@contextmanager
def _writing(storage: Storage) -> Iterator[None]:
    """Another thread adds and deletes connections meanwhile."""
    begun, done, faults = threading.Event(), threading.Event(), list[Exception]()

    def write() -> None:
        turn = 0
        try:
            while not done.is_set():
                keep(storage, a_connection(f"comes {turn}"))
                storage.delete(a_connection(f"comes {turn - 3}"), at=NOON)
                turn += 1
                begun.set()
        except Exception as fault:  # asserted below, in the thread of the test
            faults.append(fault)
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        writer.join()
    assert faults == []
