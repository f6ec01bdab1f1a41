"""What several threads write to SQLite at once: one transaction for all that wait."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.dialects import Replaced
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.storage.sql.write_queue import Turn, WriteQueue
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, keep, key_of
from tests.internals import wait_for_databases

Call = Callable[[], Any]


@pytest.fixture(params=["url", "engine"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyStorage]:
    url = f"sqlite:///{tmp_path}/finch.db"
    engine = create_engine(url)
    storage = SQLAlchemyStorage(url if request.param == "url" else engine)
    storage.check()
    yield storage
    storage.close()
    engine.dispose()


def queue_of(storage: SQLAlchemyStorage) -> WriteQueue:
    queue = storage._database._process[os.getpid()].queue
    assert queue is not None
    return queue


@contextmanager
def writing(storage: SQLAlchemyStorage) -> Iterator[Callable[[Call], Future[Any]]]:
    """A thread is writing; each call that is given here waits behind it, in this order."""
    queue, begun, done = queue_of(storage), threading.Event(), threading.Event()

    def write(_: object) -> None:
        begun.set()
        done.wait()

    def behind(call: Call) -> Future[Any]:
        before = len(queue.turns)
        future = pool.submit(call)
        while len(queue.turns) == before:
            os.sched_yield()
        return future

    with ThreadPoolExecutor(8) as pool:
        pool.submit(storage._database.write, write)
        begun.wait()
        try:
            yield behind
        finally:
            done.set()


@contextmanager
def watching(storage: SQLAlchemyStorage) -> Iterator[list[str]]:
    """The first word of every statement that begins, ends or changes something."""
    words: list[str] = []

    def note(text: str) -> None:
        if (word := text.split()[0]) not in ("SELECT", "PRAGMA", "--"):
            words.append(word)

    def traced(opened: Any, *_: object) -> None:
        opened.set_trace_callback(note)

    engine = storage._database._engine
    storage.close()
    engine.dispose()
    event.listen(engine, "connect", traced)
    yield words
    event.remove(engine, "connect", traced)


def claims(storage: SQLAlchemyStorage, code: str, **changes: Any) -> Call:
    return lambda: storage.claim(an_attempt(code, **changes))


def codes_in(storage: SQLAlchemyStorage, *codes: str) -> set[str]:
    return {code for code in codes if storage.attempt(key_of(code)) is not None}


def fault_of(call: Future[Any]) -> str:
    fault = call.exception()
    assert isinstance(fault, StorageUnavailable), fault
    return fault.reason


def test_changes_that_wait_share_one_transaction(storage: SQLAlchemyStorage) -> None:
    storage.claim(an_attempt("first"))
    settled = an_attempt("first").settled(AttemptState.STORED, at=NOON)
    with watching(storage) as words, writing(storage) as behind:
        words.clear()
        made = [behind(claims(storage, code)) for code in ("a", "b")]
        made.append(behind(lambda: storage.settle(settled, a_connection("first"))))
        made.append(behind(lambda: storage.swap(None, a_connection("other"))))

    # The first COMMIT is that of the thread before them.
    assert words.count("COMMIT") == words.count("BEGIN") + 1 == 2
    assert [each.result() for each in made] == [None, None, True, True]
    assert storage.attempt(key_of("first")) == settled
    assert codes_in(storage, "a", "b") == {"a", "b"}
    assert {each.connection_id for each in storage.connections()} == {"first", "other"}


def test_claims_that_wait_read_their_own_customers(storage: SQLAlchemyStorage) -> None:
    names = ["acme", "umbrella"]
    storage.swap(None, a_connection("of acme"))
    with watching(storage) as words, writing(storage) as behind:
        words.clear()
        made = {
            name: behind(partial(storage.claim_and_read, an_attempt(name, customer_ids=(name,))))
            for name in names
        }
        both = behind(
            partial(storage.claim_and_read, an_attempt("both", customer_ids=("umbrella", "acme")))
        )
        # Also what was written before it in the same transaction.
        behind(lambda: storage.swap(None, a_connection("of umbrella", customer_id="umbrella")))
        late = behind(
            partial(storage.claim_and_read, an_attempt("late", customer_ids=("umbrella",)))
        )

    assert words.count("COMMIT") == 2
    assert [each.result() for each in made.values()] == [
        (None, [a_connection("of acme")]),
        (None, []),
    ]
    assert both.result() == (None, [a_connection("of acme")])
    assert late.result() == (None, [a_connection("of umbrella", customer_id="umbrella")])
    assert codes_in(storage, *names, "late") == {*names, "late"}


def test_claim_whose_customer_cannot_be_read_is_not_written(
    storage: SQLAlchemyStorage, tmp_path: Path
) -> None:
    storage.swap(None, a_connection())
    with closing(sqlite3.connect(tmp_path / "finch.db")) as file:
        file.execute("UPDATE finch_connections SET obtained_at = 'yesterday'")
        file.commit()
    with writing(storage) as behind:
        unread, other = (
            behind(partial(storage.claim_and_read, an_attempt(name, customer_ids=(name,))))
            for name in ("acme", "umbrella")
        )

    assert fault_of(unread) == "unreadable"
    assert other.result() == (None, [])
    assert codes_in(storage, "acme", "umbrella") == {"umbrella"}


def test_same_code_is_claimed_once(storage: SQLAlchemyStorage) -> None:
    with writing(storage) as behind:
        one, other = (behind(claims(storage, "code", attempt_id=name)) for name in ("one", "other"))

    assert one.result() is None
    assert other.result() == storage.attempt(key_of("code")) == an_attempt(attempt_id="one")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_change_that_fails_does_not_take_the_others_with_it(
    storage: SQLAlchemyStorage, place: int
) -> None:
    codes = ["a", "b"]
    codes.insert(place, "unstorable")
    with writing(storage) as behind:
        made = {
            code: behind(claims(storage, code, reference="\ud800" if code > "b" else "REF"))
            for code in codes
        }

    assert fault_of(made.pop("unstorable")) == "unstorable"
    assert [each.result() for each in made.values()] == [None, None]
    assert codes_in(storage, *codes) == {"a", "b"}


@pytest.mark.parametrize(
    ("error", "reason"), [(Replaced, "replaced"), (OSError("disk"), "unavailable")]
)
def test_commit_that_is_not_confirmed_is_confirmed_to_no_thread(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    commit = storage._database.dialect.commit

    def commits_and_fails(*how: Any) -> None:
        commit(*how)
        raise error

    with writing(storage) as behind:
        made = [behind(claims(storage, code)) for code in ("a", "b", "c")]
        monkeypatch.setattr(storage._database.dialect, "commit", commits_and_fails)

    assert [fault_of(each) for each in made] == [reason, "unavailable", "unavailable"]
    assert not any(each.exception().unwritten for each in made)


def test_thread_that_is_stopped_leaves_the_others_their_changes(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, stops = storage._database.dialect.count, [KeyboardInterrupt]

    def counts(*how: Any) -> int:
        changed = count(*how)
        if stops:
            raise stops.pop()
        return changed

    with writing(storage) as behind:
        made = [behind(claims(storage, code)) for code in ("a", "b", "c")]
        monkeypatch.setattr(storage._database.dialect, "count", counts)

    assert isinstance(made[0].exception(), KeyboardInterrupt)
    assert [each.result() for each in made[1:]] == [None, None]
    assert codes_in(storage, "a", "b", "c") == {"b", "c"}


@pytest.mark.parametrize("stopped", [False, True])
def test_change_of_a_thread_that_waits_no_longer_is_not_written(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    with writing(storage) as behind, monkeypatch.context() as patched:
        wait_for_databases(0, put=patched.setattr)
        if stopped:
            patched.setattr(WriteQueue, "wait", stop)
        with pytest.raises(KeyboardInterrupt if stopped else StorageUnavailable) as fault:
            storage.claim(an_attempt("late"))
        assert stopped or getattr(fault.value, "reason", None) == "busy"
        patched.undo()
        claimed = behind(claims(storage, "next"))

    assert claimed.result() is None
    assert codes_in(storage, "late", "next") == {"next"}
    assert not queue_of(storage).turns


def test_turn_is_taken_while_another_thread_writes_it(storage: SQLAlchemyStorage) -> None:
    queue, seen, taken = queue_of(storage), dict[Turn[Any], None](), list[bool]()

    def look(_: object) -> None:
        seen.update(queue.turns)
        taken.extend(each.taken for each in seen)
        # As its thread does that is stopped at this moment.
        del queue.turns[[*seen][1]]

    with writing(storage) as behind:
        looked = behind(lambda: storage._database.write(look))
        claimed = behind(claims(storage, "code"))
        failed = behind(claims(storage, "unstorable", reference="\ud800"))

    assert looked.result() is claimed.result() is None
    assert fault_of(failed) == "unstorable"
    assert taken == [False, True, True]
    assert not any(each.taken for each in seen)


@pytest.mark.parametrize("taken", [True, False])
def test_what_another_thread_may_still_write_is_not_certain_to_be_unwritten(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def give_up(queue: WriteQueue, turn: Turn[Any]) -> bool:
        turn.taken = taken
        raise StorageUnavailable("busy")

    with writing(storage):
        monkeypatch.setattr(WriteQueue, "wait", give_up)
        with pytest.raises(StorageUnavailable) as fault:
            storage.claim(an_attempt("late"))

    assert fault.value.unwritten is not taken


class _Times:
    """A lock for which a thread waits in vain, until *then* happens at the last time."""

    def __init__(self, times: int, then: Callable[[], object]) -> None:
        self.times, self.then = times, then

    def acquire(self, *, blocking: bool = True, timeout: float | None = None) -> bool:
        if blocking:
            assert timeout is not None
            self.times -= 1
            if not self.times:
                self.then()
        return False


@pytest.mark.parametrize("written", [True, False])
def test_thread_whose_change_is_being_written_waits_once_more(written: bool) -> None:
    queue = WriteQueue()
    leader, mine = (Turn(database=queue, alone=lambda _: None) for _ in range(2))
    queue.turns = {leader: None, mine: None}
    mine.taken, mine.woken = True, _Times(2, lambda: written and queue.turns.pop(mine))  # type: ignore[assignment]  # a stand-in

    if written:
        assert queue.wait(mine) is False
    else:
        with pytest.raises(StorageUnavailable) as refused:
            queue.wait(mine)
        assert refused.value.reason == "busy"

    assert queue.turns == {leader: None}


_TOGETHER = ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "RELEASE", "COMMIT"]


@pytest.mark.parametrize(
    ("order", "written"),
    [
        (["a", "tables", "b"], [*_TOGETHER, "BEGIN", "COMMIT"]),
        (["tables", "a", "b"], ["BEGIN", "COMMIT", *_TOGETHER]),
    ],
)
def test_tables_are_created_in_a_transaction_of_their_own(
    storage: SQLAlchemyStorage, order: list[str], written: list[str]
) -> None:
    calls = {"tables": storage.create_tables, "a": claims(storage, "a"), "b": claims(storage, "b")}
    with watching(storage) as words, writing(storage) as behind:
        words.clear()
        made = {name: behind(calls[name]) for name in order}

    assert [made[name].result() for name in calls] == [True, None, None]
    # The first COMMIT is that of the thread before them.
    assert words == ["COMMIT", *written]


def test_storages_of_one_file_take_turns_on_their_own_connections(
    storage: SQLAlchemyStorage, tmp_path: Path
) -> None:
    other = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    other.check()
    with watching(storage) as words, writing(storage) as behind:
        words.clear()
        made = [behind(claims(each, code)) for each, code in ((storage, "a"), (other, "b"))]

    assert [each.result() for each in made] == [None, None]
    assert words.count("INSERT") == 1
    assert codes_in(storage, "a", "b") == {"a", "b"}
    other.close()


def test_change_leaves_nothing_for_the_collector(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    keep(storage, a_connection("first"))
    while gc.collect():
        pass
    gc.disable()
    try:
        keep(storage, a_connection())
        assert gc.collect() == 0
    finally:
        gc.enable()
