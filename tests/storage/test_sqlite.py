"""The SQL storage in an SQLite file."""

from __future__ import annotations

import functools
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql import database
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of
from tests.internals import wait_for_databases
from tests.processes import forked, succeeds
from tests.storage.sql_contract import SQLContract
from tests.storages import reopened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "finch.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a second is enough here: SQLite waits for locks only."""
    wait_for_databases(0.2, put=monkeypatch.setattr)


@contextmanager
def writing(storage: SQLAlchemyStorage) -> Iterator[None]:
    """Another thread is in the middle of a write to *storage*."""
    held, done = threading.Event(), threading.Event()

    def write(_: object) -> None:
        held.set()
        done.wait()

    writer = threading.Thread(target=storage._database.write, args=(write,))
    writer.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        writer.join()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The application's own engine, with the listeners that SQLAlchemy's manual recommends."""
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(opened: sqlite3.Connection, _: object) -> None:
        opened.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]  # any Connection

    yield engine
    engine.dispose()


class TestSQLiteFile(SQLContract):
    pass


@pytest.mark.full
class TestEngineOfTheApplication(SQLContract):
    @pytest.fixture
    def storage(self, engine: Engine) -> Storage:
        return SQLAlchemyStorage(engine, table_prefix="app_finch_")

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Storage]:
        return functools.partial(reopened, SQLAlchemyStorage, url, table_prefix="app_finch_")


# What it costs


def test_check_writes_no_page(url: str, path: Path) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()
    log = path.with_name("finch.db-wal")
    before = log.stat().st_size

    storage.check()

    assert log.stat().st_size == before


def test_constructing_opens_nothing(url: str, path: Path) -> None:
    SQLAlchemyStorage(url)

    assert not path.exists()


def test_every_commit_of_ours_is_synced_and_logged_ahead(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()

    with storage._database._engine.connect() as connection:
        synchronous = connection.execute(text("PRAGMA synchronous")).scalar_one()
        journal = connection.execute(text("PRAGMA journal_mode")).scalar_one()

    assert (synchronous, journal) == (2, "wal")


# Other processes


@pytest.mark.usefixtures("impatient")
def test_writer_at_work_during_a_fork_does_not_hang_the_child(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()

    def is_busy() -> bool:
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt())
        return refused.value.reason == "busy"

    with writing(storage):
        # The parent's transaction still holds the file, so the claim is refused, and soon.
        assert succeeds(forked(is_busy))


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_what_a_child_inherits_is_kept_unclosed(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.claim(an_attempt())
    processes, pool = storage._database._process, engine.pool
    gc.collect()  # the storages of earlier tests end here, and not in what plays the child
    monkeypatch.setattr(database, "_OF_PARENTS", kept := [])

    # A server written in C forks so: no hook of Python has run.
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 0)
        storage.close()
        assert storage.claim(an_attempt(attempt_id="second")) == an_attempt()
        del storage
        gc.collect()

    inherited = processes[os.getpid()]
    # Other storages of this process may have noticed the child as well.
    assert any(each is inherited for each in kept)
    assert not shared or any(each is pool for each in kept)
    for session in inherited.idle:
        session.driver_connection.execute("SELECT 1")
    assert len(inherited.idle) == (not shared)
    assert not shared or engine.pool is not pool
    pool.dispose()
    inherited.end_idle()


# Faults


@pytest.mark.usefixtures("impatient")
def test_claim_behind_another_writer_of_the_process_does_not_poll_the_file(
    url: str, engine: Engine
) -> None:
    at_work, behind = SQLAlchemyStorage(url), SQLAlchemyStorage(engine)
    behind.check()
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(str(call[2])))

    with writing(at_work), pytest.raises(StorageUnavailable):
        behind.claim(an_attempt())
    meanwhile = list(statements)
    behind.claim(an_attempt())

    assert not any(each.startswith("INSERT") for each in meanwhile)
    assert sum(each.startswith("INSERT") for each in statements) == 1


_HOLD = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); \
c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"


@pytest.mark.usefixtures("impatient")
def test_claim_behind_another_process_is_busy_and_wins_later(url: str, path: Path) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()

    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt())
        other.communicate()

    assert refused.value.reason == "busy"
    assert storage.claim(an_attempt()) is None


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system shows no locks")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_claim_behind_the_view_s_own_transaction_has_its_own_reason(
    engine: Engine, path: Path, journal: str
) -> None:
    @event.listens_for(engine, "connect")
    def wait_for_an_hour(opened: sqlite3.Connection, _: object) -> None:
        opened.execute(f"PRAGMA journal_mode={journal}")
        opened.execute("PRAGMA busy_timeout=3600000")

    storage = SQLAlchemyStorage(engine)
    storage.check()

    with engine.connect() as view:
        view.execute(text("DELETE FROM finch_attempts"))
        with pytest.raises(StorageUnavailable, match="commit it or roll it back") as refused:
            storage.claim(an_attempt())
        view.commit()

    assert refused.value.reason == "own_transaction"
    assert storage.claim(an_attempt()) is None
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 3_600_000


def test_full_database_refuses_the_claim(engine: Engine) -> None:
    storage = SQLAlchemyStorage(engine)
    storage.check()

    @event.listens_for(engine, "checkout")
    def keep_small(opened: sqlite3.Connection, *_: object) -> None:
        opened.execute("PRAGMA max_page_count=1")

    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt(return_to="/" + "a" * 100_000))

    assert refused.value.reason == "full"
    assert storage.attempt(key_of("code")) is None


def test_read_only_database_fails_the_check(url: str) -> None:
    SQLAlchemyStorage(url).check()
    location = url.removeprefix("sqlite:///")
    storage = SQLAlchemyStorage(f"sqlite:///file:{location}?mode=ro&uri=true")

    with pytest.raises(StorageUnavailable) as refused:
        storage.check()

    assert refused.value.reason == "read_only"


def test_file_that_is_no_database_is_reported_as_corrupt(url: str, path: Path) -> None:
    path.write_bytes(b"This is a letter, not a database." * 100)

    with pytest.raises(StorageUnavailable) as refused:
        SQLAlchemyStorage(url).claim(an_attempt())

    assert refused.value.reason == "corrupt"


def test_missing_folder_is_unavailable_until_it_exists(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/later/finch.db")

    with pytest.raises(StorageUnavailable) as refused:
        storage.check()
    (tmp_path / "later").mkdir()

    assert refused.value.reason == "unavailable"
    storage.check()


def test_failed_transaction_leaves_nothing_behind(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()
    used: list[Any] = []

    def interrupted(db: Connection) -> None:
        used.append(db.connection.dbapi_connection)
        storage._sql.claim.count(db, an_attempt().as_row())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage._database.write(interrupted)

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[0].execute("SELECT 1")
    assert storage.attempt(key_of("code")) is None
    assert storage.claim(an_attempt()) is None


# The application's engine


@pytest.mark.parametrize(
    "pragma", ["synchronous=NORMAL", "synchronous=OFF", "journal_mode=OFF", "journal_mode=MEMORY"]
)
def test_engine_that_may_lose_a_commit_is_refused(url: str, pragma: str) -> None:
    engine = create_engine(url)
    event.listen(engine, "connect", lambda opened, _: opened.execute(f"PRAGMA {pragma}"))
    storage = SQLAlchemyStorage(engine)

    with pytest.raises(SchemaMismatch, match="synchronous=FULL"):
        storage.check()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())

    assert refused.value.reason == "schema_mismatch"
    assert SQLAlchemyStorage(engine, accept_data_loss=True).claim(an_attempt()) is None
    engine.dispose()


def test_transaction_of_the_application_is_left_alone(engine: Engine, path: Path) -> None:
    with sqlite3.connect(path) as before:
        before.execute("PRAGMA journal_mode=WAL")
    before.close()
    storage = SQLAlchemyStorage(engine)
    storage.check()

    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE mine (id INTEGER)"))
        connection.commit()
        connection.execute(text("SELECT 1 FROM mine"))
        assert storage.claim(an_attempt()) is None
        connection.execute(text("SELECT 1 FROM mine"))
        connection.rollback()

    assert storage.attempt(key_of("code")) == an_attempt()


def test_engine_is_given_back_as_it_was(url: str) -> None:
    engine = create_engine(url)
    storage = SQLAlchemyStorage(engine)
    storage.claim(an_attempt())

    with engine.begin() as connection:
        connection.execute(text("DELETE FROM finch_attempts"))
        connection.rollback()

    assert storage.attempt(key_of("code")) == an_attempt()
    engine.dispose()


def test_a_claim_that_breaks_another_rule_of_the_table_is_an_error(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    wrong: Any = None

    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt(client_id=wrong))

    assert not refused.value.unwritten
    assert storage.claim(an_attempt()) is None


def test_a_vacuum_does_not_move_a_scan_of_tokens(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    for i in range(9):
        done = an_attempt(f"{i}").settled(AttemptState.STORED, at=NOON)
        storage.settle(done, a_connection(f"{i}"))
    first = storage.scan_tokens(after=None, limit=4)

    with closing(sqlite3.connect(tmp_path / "finch.db")) as somebody, somebody:
        somebody.execute("DELETE FROM finch_connections WHERE connection_id IN ('1', '2', '5')")
        somebody.commit()
        somebody.execute("VACUUM")
    rest = storage.scan_tokens(after=first.after, limit=9)

    assert [each.connection_id for each in first.rows] == ["0", "1", "2", "3"]
    assert [each.connection_id for each in rest.rows] == ["4", "6", "7", "8"]
    storage.close()
