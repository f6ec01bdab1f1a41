"""What the SQL storage does in the same way on every database."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
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
from finch_middleware.storage.sql.dialects import Fault, dialect_of
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    an_attempt,
    keep,
    key_of,
    sealed,
)
from tests.internals import wait_for_databases
from tests.storages import options_of

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
    monkeypatch.setattr(storage, "_lost", lambda *_: (False, None))

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
    storage.claim(an_attempt(attempt_id="other"))
    taken_by_others = iter(range(taken - 1))

    def meet(db: Connection, attempt: Attempt) -> object:
        if next(taken_by_others, None) is None:
            released = {"of_code": attempt.code_hash, "of_attempt": "other"}
            assert storage._sql.release.count(db, released) == 1
        return False, None

    monkeypatch.setattr(storage, "_lost", meet)

    assert storage.claim(an_attempt()) is None
    assert storage.attempt(key_of("code")) == an_attempt()


def test_claim_that_sees_no_winner_has_not_won(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.claim(an_attempt(attempt_id="winner"))
    # The winner's row is gone again whenever the loser looks at what stood in its way.
    monkeypatch.setattr(storage, "_current", lambda *_, **__: None)

    with pytest.raises(StorageUnavailable):
        storage.claim(an_attempt(attempt_id="loser"))


def test_a_read_is_few_calls_of_python(storage: SQLAlchemyStorage) -> None:
    storage.claim(an_attempt())
    calls: list[str] = []

    sys.setprofile(lambda frame, event, _: event == "call" and calls.append(str(frame)))
    found = storage._database.read(storage._sql.attempt, of_code=key_of("code"))
    sys.setprofile(None)

    assert len(found) == 1
    assert len(calls) <= 25, calls


def test_sessions_that_are_used_at_once_have_a_limit_and_few_stay_open(
    storage: SQLAlchemyStorage,
) -> None:
    database, held = storage._database, list[Any]()
    database.prepare()
    process = database._process[os.getpid()]

    def hold(more: int) -> None:
        def use(connection: Connection) -> None:
            held.append(connection.connection.dbapi_connection)
            hold(more - 1) if more else None

        database._run(use)

    with pytest.MonkeyPatch.context() as impatient:
        wait_for_databases(0.01, put=impatient.setattr)
        with pytest.raises(StorageUnavailable) as refused:
            hold(15)
    hold(14)

    assert refused.value.reason == "busy"
    assert len(process.idle) == 5
    assert len({*map(id, held[-15:])}) == 15

    def close(connection: Connection) -> None:
        held.append(connection.connection.dbapi_connection)
        storage.close()

    database._run(close)
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


#: An index's name in SQLite, and in PostgreSQL: the statements whose rows it finds.
FOUND_BY_INDEX = {
    ("attempts_1", "attempts_pkey"): (
        *("attempt", "attempt_locked", "update_attempt", "release", "end_claim"),
    ),
    ("attempts_of_flow", "attempts_of_flow"): ("attempt_of_flow",),
    ("attempts_pending", "attempts_pending"): ("quarantined", "unsettled", "old_attempts"),
    ("connections_1", "connections_pkey"): (
        *("connection", "connection_locked", "update_connection", "scan", "scan_names"),
        "replacement",
    ),
    ("connections_of_customer", "connections_of_customer"): (
        *("of_customer", "ended", "old_announcements"),
    ),
    ("events_1", "events_pkey"): ("event", "mark_event"),
    ("events_of_time", "events_of_time"): ("old_events",),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_statement_uses_an_index_however_many_rows_there_are(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    storage = SQLAlchemyStorage(options_of(kind, request=request, folder=tmp_path)["storage"])
    storage.check()
    named = {**vars(storage._sql), "replacement": storage._tokens._replacement}
    insertions = {name for name in named if name.startswith(("insert", "put", "claim"))}
    assert {name for names in FOUND_BY_INDEX.values() for name in names} | insertions == {*named}
    values = {**a_connection().as_row(), **an_attempt().as_row(), "of_limit": 10}
    values |= dict.fromkeys(("of_code", "of_flow", "of_customer", "of_last", "of_event"), bytes(32))
    values |= dict.fromkeys(("of_attempt", "of_sealed", "new_sealed", "between"), "ab")
    values |= {"of_instant": NOON, "of_place": None}

    with storage._database._engine.connect() as database:
        if kind == "postgresql":
            # As in a large table: one with few rows is read without an index, or in no order.
            database.exec_driver_sql("SET enable_seqscan = off; SET enable_sort = off")
        for (in_sqlite, in_postgresql), names in FOUND_BY_INDEX.items():
            for name in names:
                kept = named[name][0] if isinstance(named[name], tuple) else named[name]
                texts = name == "replacement" and kind == "postgresql"
                form = kept._made(database)
                bound = form.bound({**values, "of_hash": "ab" if texts else bytes(32)})
                explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
                rows = database.exec_driver_sql(f"{explain} {form.text}", bound).all()
                plan = "\n".join(str(row[-1]) for row in rows)
                assert (in_sqlite if kind == "sqlite" else in_postgresql) in plan, (name, plan)
                assert not re.search("SCAN|Seq Scan|Sort|TEMP B-TREE", plan), (name, plan)
    storage.close()


def test_a_token_that_has_moved_since_the_scan_is_left(storage: SQLAlchemyStorage) -> None:
    keep(storage, *(a_connection(name, sealed=sealed(name)) for name in "ab"))
    one, other = storage.scan_tokens(after=None, limit=2).tokens

    moved = dataclasses.replace(one, place=other.place)

    assert storage.swap_tokens([(moved, sealed("1")), (other, sealed("2"))]) == [False, True]
    assert storage.get(one.connection_id) == a_connection("a", sealed=sealed("a"))


@pytest.mark.parametrize("name", ["old_attempts", "old_events", "old_announcements"])
def test_removal_finds_rows_by_their_keys_however_many_are_old(
    storage: SQLAlchemyStorage, name: str
) -> None:
    storage.check()
    removal = getattr(storage._sql, name)[1]

    with storage._database._engine.connect() as database:
        keys = ",".join("?" * sqlalchemy._BATCH)
        text = str(removal.compile(database)).replace("__[POSTCOMPILE_of_keys]", keys)
        nulls = (None,) * text.count("?")
        plan = database.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", nulls).all()

    [step] = [row[-1] for row in plan]
    assert re.search(r"_1 \(\w+_hash=\?\)", step), step
