"""What the SQL storage does in the same way on every database."""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import time
import traceback
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from sqlite3 import ProgrammingError
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, TimeoutError

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import ConfigurationError, StorageUnavailable
from finch_middleware.storage.events import StoredEvent
from finch_middleware.storage.sql import storage as sqlalchemy
from finch_middleware.storage.sql.dialects import Fault, Replaced, dialect_of
from finch_middleware.storage.sql.kept import Bound
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.storage.sql.write_queue import Turn
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    an_attempt,
    keep,
    key_of,
    sealed,
)
from tests.internals import wait_for_databases

_EVENT = StoredEvent(event_id="msg", received_at=NOON, delivered=False)


@pytest.fixture
def storage(tmp_path: Path) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?cache=shared&uri=true"],
)
def test_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLAlchemyStorage(url)


def test_engine_in_memory_is_refused() -> None:
    engine = create_engine("sqlite://")

    with pytest.raises(ConfigurationError, match="memory://"):
        SQLAlchemyStorage(engine)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://user:hunter2@host:port/db", "cannot be parsed"),
        ("hunter2", "cannot be parsed"),
        (
            "sqlite:///hunter2?accept_data_loss=yes",
            "storage URL must be true or false",
        ),
        ("oracle://user:hunter2@host/db", "database 'oracle' is not supported"),
        ("sqlite+nosuchdriver://user:hunter2@/db", "driver"),
        ("sqlite+pysqlcipher://:hunter2@/finch.db", "driver"),
    ],
)
def test_wrong_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        SQLAlchemyStorage(url)

    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None


def test_forget_removes_a_batch_at_a_time(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlalchemy, "_BATCH", 3)
    for i in range(10):
        storage.settle(an_attempt(f"{i}").settled(AttemptState.FAILED, at=NOON))

    gone = [storage.forget(settled_before=NOON + timedelta(days=1)) for _ in range(5)]

    assert gone == [3, 3, 3, 1, 0]


def test_text_that_no_database_takes_is_a_storage_fault(storage: SQLAlchemyStorage) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt(return_to="/\ud800"))

    assert refused.value.reason == "unstorable"
    assert storage.attempt(key_of("code")) is None


def test_error_keeps_no_parameter_of_the_statement(storage: SQLAlchemyStorage) -> None:
    storage.check()
    secret = sealed("canary")

    with pytest.raises(StorageUnavailable) as refused:
        storage.settle(an_attempt(), a_connection(sealed=secret, status="\ud800"))

    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert "canary" not in "".join(traceback.format_exception(refused.value))


def test_engine_of_ours_shows_no_parameter(storage: SQLAlchemyStorage) -> None:
    assert storage._database._engine.hide_parameters


def test_lost_race_that_ends_in_nothing_is_busy(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.claim(an_attempt(attempt_id="other"))
    monkeypatch.setattr(storage, "_holder", lambda _: None)

    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())

    assert refused.value.reason == "busy"


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ("connection_locked", lambda storage: storage.settle(an_attempt(), a_connection())),
        ("event", lambda storage: storage.record(_EVENT)),
    ],
    ids=["connection", "event"],
)
@pytest.mark.parametrize(("vanished", "reason"), [(1, ""), (100, "busy")])
def test_row_that_was_forgotten_before_it_was_read_is_inserted_again(
    storage: SQLAlchemyStorage,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    call: Callable[[SQLAlchemyStorage], object],
    vanished: int,
    reason: str,
) -> None:
    storage.record(_EVENT)
    storage.swap(None, a_connection(attempt_id="earlier"))
    times, rows = iter(range(vanished)), getattr(storage._sql, statement).rows
    found = SimpleNamespace(rows=lambda *how: rows(*how) if next(times, None) is None else [])
    monkeypatch.setattr(storage._sql, statement, found)

    fault = None
    try:
        call(storage)
    except StorageUnavailable as error:
        fault = error

    assert (fault.reason if fault else "") == reason


@pytest.mark.parametrize("undone", [1, 3])
def test_transaction_that_the_database_undid_is_tried_again(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, undone: int
) -> None:
    storage.check()
    faults = iter([OperationalError("", None, Exception())] * undone)
    monkeypatch.setattr(storage._database.dialect, "fault", lambda _: Fault("busy", passing=True))

    def work(_: object) -> str:
        for fault in faults:
            raise fault
        return "done"

    assert storage._database.write(work) == "done"


def test_session_that_has_ended_is_replaced_after_a_transaction_was_undone(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.check()
    dialect = storage._database.dialect
    begin, fault_of = dialect.begin, dialect.fault
    begins, works = iter([None, Replaced]), iter([TimeoutError])

    def begins_or_fails(*how: Any) -> list[int]:
        if (fault := next(begins, None)) is not None:
            raise fault
        return begin(*how)

    def work(_: object) -> str:
        if (fault := next(works, None)) is not None:
            raise fault
        return "done"

    def passes(error: Exception) -> Fault:
        return Fault("busy", passing=True) if type(error) is TimeoutError else fault_of(error)

    monkeypatch.setattr(dialect, "begin", begins_or_fails)
    monkeypatch.setattr(dialect, "fault", passes)

    assert storage._database.write(work) == "done"
    assert next(begins, None) is next(works, None) is None


def test_transaction_that_the_database_always_undoes_is_given_up(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.check()
    monkeypatch.setattr(storage._database.dialect, "fault", lambda _: Fault("busy", passing=True))
    tries: list[object] = []

    def work(db: object) -> None:
        tries.append(db)
        raise OperationalError("", None, Exception())

    with pytest.raises(StorageUnavailable):
        storage._database.write(work)

    assert 1 < len(tries) < 10


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "busy"),
        (SQLAlchemyError(), "unavailable"),
        (OSError(), "unavailable"),
        (DBAPIError("", None, Exception()), "unavailable"),
    ],
)
def test_errors_beside_the_driver_s_own_have_a_reason(error: Exception, reason: str) -> None:
    engine = create_engine("sqlite:///finch.db")

    assert dialect_of("sqlite", url=engine.url).fault(error).reason == reason


@pytest.mark.parametrize("taken", [1, 2])
def test_claim_that_meets_a_release_is_tried_again(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    keep(storage, a_connection())
    storage.claim(an_attempt(attempt_id="other"))
    taken_by_others = iter(range(taken - 1))

    def meet(attempt: Attempt) -> None:
        if next(taken_by_others, None) is None:
            storage.release(an_attempt(attempt_id="other"))

    monkeypatch.setattr(storage, "_holder", meet)

    assert storage.claim_and_read(an_attempt()) == (None, [a_connection()])
    assert storage.attempt(key_of("code")) == an_attempt()


def test_a_claim_reads_as_every_read_does(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect, seen = storage._database.dialect, list[Bound]()
    read = dialect.read

    def noted(connection: Connection, statement: Bound) -> list[dict[str, Any]]:
        seen.append(statement)
        return read(connection, statement)

    monkeypatch.setattr(dialect, "read", noted)

    storage.claim_and_read(an_attempt(customer_ids=("acme", "umbrella")))

    assert seen == [storage._customer_query(each) for each in ("acme", "umbrella")]


def test_a_read_is_few_calls_of_python(storage: SQLAlchemyStorage) -> None:
    storage.claim(an_attempt())
    calls: list[str] = []

    sys.setprofile(lambda frame, event, _: event == "call" and calls.append(str(frame)))
    found = storage._database.read(storage._sql.attempt, of_code=key_of("code"))
    sys.setprofile(None)

    assert len(found) == 1
    assert len(calls) <= 25, calls


def test_sessions_that_are_used_at_once_have_a_limit_and_stay_open(
    storage: SQLAlchemyStorage,
) -> None:
    database, held = storage._database, list[Any]()
    database.prepare()
    process = database._process[os.getpid()]

    def hold(more: int) -> None:
        def use(connection: Connection) -> None:
            held.append(connection.connection.dbapi_connection)
            hold(more - 1) if more else None

        database._run(Turn(database=database, alone=use))

    with pytest.MonkeyPatch.context() as impatient:
        wait_for_databases(0.01, put=impatient.setattr)
        with pytest.raises(StorageUnavailable) as refused:
            hold(15)
    hold(14)

    assert refused.value.reason == "busy"
    assert len(process.idle) == 15
    assert len({*map(id, held[-15:])}) == 15
    hold(14)
    assert {*map(id, held[-15:])} == {*map(id, held[-30:-15])}

    def close(connection: Connection) -> None:
        held.append(connection.connection.dbapi_connection)
        storage.close()

    database._run(Turn(database=database, alone=close))
    assert not process.idle
    for each in held:
        with pytest.raises(ProgrammingError, match="closed"):
            each.execute("SELECT 1")


@pytest.mark.parametrize("drivername", ["postgresql+pg8000", "mysql+mysqldb"])
def test_driver_that_we_do_not_know_gets_no_options_of_another(drivername: str) -> None:
    url = make_url(f"{drivername}://user@host/db")

    options = dialect_of(url.get_backend_name(), url=url).engine_options()

    assert options == {}


@pytest.mark.usefixtures("usually_patient")
def test_older_driver_of_postgresql_gets_the_limits_and_no_option_of_the_newer() -> None:
    url = make_url("postgresql+psycopg2://user@host/db")

    dialect = dialect_of("postgresql", url=url)
    given = dialect.engine_options()["connect_args"]

    assert given["tcp_user_timeout"] == 3000
    assert "prepare_threshold" not in given
    assert dialect.connect([], given) is None
    dialect.opened(None)
    assert "client_encoding" not in dialect._settings()  # type: ignore[attr-defined]  # its own


def test_storage_without_a_reference_is_collected(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    storage.check()
    storage.close()
    seen = weakref.ref(storage)

    del storage
    gc.collect()

    assert seen() is None


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_instants_do_not_follow_the_machine_s_time_zone(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    storage.claim(an_attempt())
    monkeypatch.setenv("TZ", zone)
    time.tzset()

    back = storage.attempt(key_of("code"))

    monkeypatch.undo()
    time.tzset()
    assert back == an_attempt()


def test_error_before_the_first_statement_is_a_storage_fault(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/finch.db")

    @event.listens_for(engine, "set_connection_execution_options")
    def refuse(*_: object) -> None:
        raise NotImplementedError

    with pytest.raises(StorageUnavailable) as refused:
        SQLAlchemyStorage(engine).check()

    assert refused.value.__context__ is None
    engine.dispose()


def test_a_token_that_has_moved_since_the_scan_is_left(storage: SQLAlchemyStorage) -> None:
    keep(storage, *(a_connection(name, sealed=sealed(name)) for name in "ab"))
    one, other = storage.scan_tokens(after=None, limit=2).rows

    moved = dataclasses.replace(one, place=other.place)

    assert storage.swap_tokens([(moved, sealed("1")), (other, sealed("2"))]) == [False, True]
    assert storage.get(one.connection_id) == a_connection("a", sealed=sealed("a"))
