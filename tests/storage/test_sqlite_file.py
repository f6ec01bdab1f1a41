"""The SQLite file and its tables: removed, replaced, incomplete or shared."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.storage.sql.dialects import sqlite
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import (
    NOON,
    all_at_once,
    an_attempt,
    key_of,
)
from tests.processes import open_files
from tests.storage.test_sqlite import engine, path, url

__all__ = ["engine", "path", "url"]


def _remove(path: Path) -> None:
    for each in path.parent.glob("finch.db*"):
        each.unlink()


def _restore_a_backup(path: Path) -> None:
    with (
        closing(sqlite3.connect(path)) as live,
        closing(sqlite3.connect(path.with_name("backup"))) as backup,
    ):
        live.backup(backup)
    _remove(path)
    path.with_name("backup").rename(path)


def _remove_the_log(path: Path) -> None:
    path.with_name("finch.db-wal").unlink()


def _replace_the_log(path: Path) -> None:
    log = path.with_name("finch.db-wal")
    log.with_name("other").write_bytes(log.read_bytes())
    log.with_name("other").rename(log)


CHANGES = [_remove, _restore_a_backup, _remove_the_log, _replace_the_log]


@pytest.fixture(params=["descriptor", "no descriptors", "no /proc"])
def known_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the log is known: by the name of a descriptor, or by its number where there is none."""
    real = os.readlink

    def readlink(path: str) -> str:
        if path.startswith("/proc/"):
            raise FileNotFoundError(2, os.strerror(2))
        return real(path)

    if request.param == "no descriptors":
        monkeypatch.delattr(os, "O_PATH")
    elif request.param == "no /proc":
        monkeypatch.setattr(os, "readlink", readlink)


@pytest.mark.usefixtures("known_by")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_t45_what_is_written_after_the_file_was_changed_is_found_by_others(
    url: str, path: Path, engine: Engine, shared: bool, change: Callable[[Path], None]
) -> None:
    with closing(sqlite3.connect(path)) as operator:
        operator.execute("PRAGMA journal_mode=WAL")
    # The application's connection is older than the storage.
    engine.connect().close()
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.claim(an_attempt("before"))

    change(path)
    won = storage.claim(an_attempt())

    assert won is None
    with closing(sqlite3.connect(path)) as other:
        assert (key_of("code"),) in other.execute("SELECT code_hash FROM finch_attempts").fetchall()
    assert storage.attempt(key_of("code")) == an_attempt()


@pytest.mark.usefixtures("known_by")
@pytest.mark.parametrize("change", CHANGES)
def test_t45_commit_into_a_file_that_was_changed_is_not_confirmed(
    url: str, path: Path, change: Callable[[Path], None]
) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()

    def work(db: Connection) -> None:
        storage._sql.claim.count(db, an_attempt().as_row())
        change(path)

    with pytest.raises(StorageUnavailable, match="removed or replaced"):
        storage._database.write(work)

    # SQLite may have saved what was in the log when it closed the file.
    assert storage.claim(an_attempt()) in (None, an_attempt())
    assert SQLAlchemyStorage(url).attempt(key_of("code")) == an_attempt()


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine without a log"])
def test_no_time_of_the_log_is_read_which_would_make_each_commit_slower(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.check()
    real, asked = os.stat, list[str]()

    def stat(path: Any, **how: Any) -> os.stat_result:
        asked.append(str(path))
        return real(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    storage.claim(an_attempt())
    storage.settle(an_attempt().settled(AttemptState.FAILED, at=NOON))

    assert {Path(each).name for each in asked} == {"finch.db"}


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_a_closed_storage_leaves_no_descriptor(
    url: str, path: Path, engine: Engine, shared: bool
) -> None:
    with closing(sqlite3.connect(path)) as operator:
        operator.execute("PRAGMA journal_mode=WAL")
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.claim(an_attempt())
    during = open_files(path.parent)

    storage.close()
    engine.dispose()

    # The file, its log, its index, and the one by which the log is known.
    assert (len(during), open_files(path.parent)) == (4, [])


def test_file_whose_inode_never_stays_the_same_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SQLAlchemyStorage(url)
    numbers = itertools.count()
    monkeypatch.setattr(sqlite, "_identity", lambda _: (0, next(numbers)))

    with pytest.raises(StorageUnavailable) as refused:
        storage.check()

    assert refused.value.reason == "replaced"


def test_read_after_the_file_was_removed_sees_no_row_of_it(url: str, path: Path) -> None:
    storage = SQLAlchemyStorage(url)
    storage.claim(an_attempt())

    _remove(path)

    assert storage.attempt(key_of("code")) is None


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_file_that_was_made_anew_with_the_number_of_the_old_one_gets_its_tables(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    storage = SQLAlchemyStorage(create_engine(url, poolclass=NullPool) if shared else url)
    monkeypatch.setattr(sqlite, "_identity", lambda _: (0, 1))
    storage.claim(an_attempt())

    storage.close()
    _remove(path)

    assert storage.claim(an_attempt("other")) is None
    assert storage.attempt(key_of("code")) is None


def test_engine_that_opens_another_file_than_its_url_names_works(url: str, path: Path) -> None:
    other = path.with_name("other.db")
    engine = create_engine(url, poolclass=NullPool, creator=lambda: sqlite3.connect(other))
    storage = SQLAlchemyStorage(engine)

    assert storage.claim(an_attempt()) is None
    assert storage.attempt(key_of("code")) == an_attempt()
    assert not path.exists()


@pytest.mark.parametrize("way", ["plain", "uri", "no mknod"])
def test_file_of_ours_is_for_its_owner_only(
    url: str, path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "no mknod":
        monkeypatch.delattr(os, "mknod")
    before = os.umask(0)
    try:
        storage = SQLAlchemyStorage(f"sqlite:///file:{path}?uri=true" if way == "uri" else url)
        storage.claim(an_attempt())
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == dict.fromkeys(["finch.db", "finch.db-wal", "finch.db-shm"], 0o600)


def test_tables_are_made_once_by_many_threads_and_handles(url: str) -> None:
    storages = [SQLAlchemyStorage(url) for _ in range(4)] * 2

    all_at_once(lambda storage: storage.check(), storages)

    assert storages[0].claim(an_attempt()) is None


TRIGGERS = {
    "changes what is written to reference": "AFTER INSERT ON finch_attempts BEGIN "
    "UPDATE finch_attempts SET reference = 'another'; END",
    "changes what is written to its columns": "AFTER INSERT ON finch_attempts BEGIN "
    "UPDATE finch_attempts SET customer_ids = 'no list'; END",
    "does not give back": "AFTER INSERT ON finch_attempts BEGIN DELETE FROM finch_attempts; END",
    "does not remove a row": "BEFORE DELETE ON finch_connections BEGIN SELECT RAISE(IGNORE); END",
}


@pytest.mark.parametrize(("fault", "trigger"), TRIGGERS.items(), ids=TRIGGERS)
def test_table_that_does_not_keep_what_is_written_is_refused(
    url: str, path: Path, fault: str, trigger: str
) -> None:
    SQLAlchemyStorage(url).create_tables()
    with closing(sqlite3.connect(path)) as operator:
        operator.execute(f"CREATE TRIGGER theirs {trigger}")

    with pytest.raises(SchemaMismatch, match=fault):
        SQLAlchemyStorage(url).check()


LOST = {
    "its column": "ALTER TABLE finch_attempts DROP COLUMN request_id",
    "its unique index": "DROP INDEX finch_attempts_of_flow",
    "its index for all rows": "DROP INDEX finch_attempts_of_flow; "
    "CREATE UNIQUE INDEX theirs ON finch_attempts (flow_hash) WHERE state = 'stored'",
}


@pytest.mark.parametrize("statements", LOST.values(), ids=LOST)
def test_table_that_lost_what_a_claim_needs_is_refused_and_not_changed(
    url: str, path: Path, statements: str
) -> None:
    SQLAlchemyStorage(url).claim(an_attempt(flow_hash=key_of("flow")))
    with closing(sqlite3.connect(path)) as operator:
        operator.executescript(statements)
    storage = SQLAlchemyStorage(url)

    for call in (storage.check, storage.create_tables):
        with pytest.raises(SchemaMismatch, match=r"finch_attempts has no (column|unique index)"):
            call()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt("other", flow_hash=key_of("flow")))

    assert refused.value.reason == "schema_mismatch"


def test_unique_constraint_does_as_well_as_a_unique_index(url: str, path: Path) -> None:
    SQLAlchemyStorage(url).create_tables()
    with closing(sqlite3.connect(path)) as operator:
        query = "SELECT sql FROM sqlite_master WHERE name = 'finch_attempts'"
        table = operator.execute(query).fetchone()[0].rstrip().removesuffix(")")
        operator.executescript(f"DROP TABLE finch_attempts; {table}, UNIQUE (flow_hash))")

    SQLAlchemyStorage(url).check()


def test_table_of_another_program_is_refused(url: str, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE finch_attempts (id INTEGER PRIMARY KEY)")
    other.close()

    with pytest.raises(SchemaMismatch, match="table_prefix"):
        SQLAlchemyStorage(url).check()


def test_two_prefixes_share_a_database(url: str) -> None:
    one, two = SQLAlchemyStorage(url), SQLAlchemyStorage(url, table_prefix="second_")

    assert one.claim(an_attempt()) is None
    assert two.claim(an_attempt()) is None
    assert {table.name for table in two.metadata.tables.values()} == {
        "second_attempts",
        "second_connections",
        "second_events",
    }
