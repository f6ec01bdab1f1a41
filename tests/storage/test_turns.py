"""What several threads write to SQLite at once: one transaction for all that wait."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.dialects import Replaced
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, keep, key_of
from tests.internals import wait_for_databases

Calls = Mapping[str, Callable[[], Any]]


@pytest.fixture(params=["url", "engine"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyStorage]:
    url = f"sqlite:///{tmp_path}/finch.db"
    engine = create_engine(url)
    storage = SQLAlchemyStorage(url if request.param == "url" else engine)
    storage.create_tables()
    storage.check()
    yield storage
    storage.close()
    engine.dispose()


@contextmanager
def begun(storage: SQLAlchemyStorage) -> Iterator[list[str]]:
    """Every beginning and commit of a transaction, and every statement that changes a row."""
    changes: list[str] = []

    def note(text: str) -> None:
        if text.split()[0] in ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE"):
            changes.append(text.split()[0])

    def traced(opened: Any, *_: object) -> None:
        opened.set_trace_callback(note)

    engine = storage._database._engine
    storage.close()
    engine.dispose()
    event.listen(engine, "connect", traced)
    yield changes
    event.remove(engine, "connect", traced)


def at_once(storage: SQLAlchemyStorage, calls: Calls) -> dict[str, Future[Any]]:
    """What each of *calls* gives, all of which have waited for the same lock."""
    process = storage._database._process[os.getpid()]
    writer = process.writer
    assert writer is not None
    with ThreadPoolExecutor(len(calls)) as pool, writer:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        while len(process.waiting) < len(calls):
            os.sched_yield()
    return futures


def _claims(storage: SQLAlchemyStorage, *codes: str) -> Calls:
    return {code: lambda code=code: storage.claim(an_attempt(code)) for code in codes}  # type: ignore[misc]  # a default binds it


def _fails(call: Future[Any]) -> str:
    fault = call.exception()
    assert isinstance(fault, StorageUnavailable), fault
    return fault.reason


def test_changes_that_wait_share_one_transaction(storage: SQLAlchemyStorage) -> None:
    storage.claim(an_attempt("first"))
    settled = an_attempt("first").settled(AttemptState.STORED, at=NOON)
    with begun(storage) as statements:
        ended = at_once(
            storage,
            {
                **_claims(storage, "a", "b", "a again"),
                "settle": lambda: storage.settle(settled, a_connection("first")),
                "swap": lambda: storage.swap(None, a_connection("other")),
            },
        )

    assert statements.count("BEGIN") == statements.count("COMMIT") == 1
    assert [ended[code].result() for code in ("a", "b", "a again")] == [None] * 3
    assert ended["settle"].result() is ended["swap"].result() is True
    assert storage.attempt(key_of("first")) == settled
    assert {each.connection_id for each in storage.connections()} == {"first", "other"}


def test_same_code_is_claimed_once(storage: SQLAlchemyStorage) -> None:
    one, other = (an_attempt(attempt_id=name) for name in ("one", "other"))

    ended = at_once(
        storage, {"one": lambda: storage.claim(one), "other": lambda: storage.claim(other)}
    )

    winner = storage.attempt(key_of("code"))
    results = {name: future.result() for name, future in ended.items()}
    assert winner in (one, other)
    assert results == {name: None if name == winner.attempt_id else winner for name in results}


def test_change_that_fails_does_not_take_the_others_with_it(storage: SQLAlchemyStorage) -> None:
    unstorable = an_attempt("unstorable", reference="\ud800")
    with begun(storage) as statements:
        ended = at_once(
            storage, {**_claims(storage, "a", "b"), "c": lambda: storage.claim(unstorable)}
        )

    assert _fails(ended["c"]) == "unstorable"
    assert ended["a"].result() is ended["b"].result() is None
    assert all(storage.attempt(key_of(code)) for code in ("a", "b"))
    # Of the transaction that all had begun; a claim alone is a statement of its own.
    assert statements.count("BEGIN") == 1
    assert "COMMIT" not in statements


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

    monkeypatch.setattr(storage._database.dialect, "commit", commits_and_fails)

    ended = at_once(storage, _claims(storage, "a", "b", "c"))

    reasons = sorted(_fails(each) for each in ended.values())
    assert reasons == [reason, "unavailable", "unavailable"]


def test_thread_that_is_stopped_leaves_the_others_their_changes(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, stops = storage._database.dialect.begin, [KeyboardInterrupt]

    def begins(connection: Connection, *how: Any) -> list[int]:
        counts = begin(connection, *how)
        if stops:
            raise stops.pop()
        return counts

    monkeypatch.setattr(storage._database.dialect, "begin", begins)

    ended = at_once(storage, _claims(storage, "a", "b", "c"))

    stopped = [code for code in ended if isinstance(ended[code].exception(), KeyboardInterrupt)]
    assert len(stopped) == 1
    recorded = {code for code in ended if storage.attempt(key_of(code)) is not None}
    assert recorded == ended.keys() - {*stopped}


def test_change_whose_thread_has_given_up_is_not_written(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = storage._database._process[os.getpid()]
    assert process.writer is not None
    with process.writer, ThreadPoolExecutor() as pool:
        wait_for_databases(0.01, put=monkeypatch.setattr)
        given_up = pool.submit(storage.claim, an_attempt("late"))
        assert _fails(given_up) == "busy"
    storage.claim(an_attempt("next"))

    assert not process.waiting
    assert storage.attempt(key_of("late")) is None


def test_tables_are_created_in_a_transaction_of_their_own(storage: SQLAlchemyStorage) -> None:
    process = storage._database._process[os.getpid()]
    assert process.writer is not None
    with begun(storage) as statements, ThreadPoolExecutor() as pool:
        with process.writer:
            claim = pool.submit(storage.claim, an_attempt())
            while not process.waiting:
                os.sched_yield()
            created = pool.submit(storage.create_tables)
        assert created.result() is True
        assert claim.result() is None

    assert statements in (["BEGIN", "COMMIT", "INSERT"], ["INSERT", "BEGIN", "COMMIT"])


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
