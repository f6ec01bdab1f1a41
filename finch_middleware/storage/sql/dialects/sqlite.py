"""SQLite: one file, one writer, every commit synced."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, ClassVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.forks import PerProcess
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault, upsert

# In one process, one writer at a time for each file: SQLite's waiters poll, and some starve.
_WRITERS: PerProcess[dict[str, threading.Lock]] = PerProcess(dict)


class SQLite(Dialect):
    """A database file: tables created at first use, one writer, every commit synced."""

    makes_tables = True

    facts: ClassVar = {
        "SQLite": "SELECT sqlite_version()",
        "journal_mode": "PRAGMA journal_mode",
        "synchronous": "PRAGMA synchronous",
    }

    _REASONS: ClassVar = {
        5: "busy",
        6: "busy",
        8: "read_only",
        10: "io_error",
        11: "corrupt",
        13: "full",
        26: "corrupt",
    }
    _FULL = 2
    _NO_JOURNAL = ("off", "memory")

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        database = url.database or ":memory:"
        if ":memory:" in database or "mode=memory" in database:
            raise ConfigurationError(
                ["An SQLite database in memory loses its tokens: name a file, or use memory://."]
            )
        self._path = os.path.realpath(database)

    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": {"timeout": dialects.PATIENCE_SECONDS}}

    def opened(self, driver_connection: Any) -> None:
        with suppress(driver_connection.OperationalError):
            # Refused while another process does the same.
            driver_connection.execute("PRAGMA journal_mode=WAL")
        driver_connection.execute("PRAGMA synchronous=FULL")
        # On macOS, fsync alone leaves the bytes in the drive's cache.
        driver_connection.execute("PRAGMA fullfsync=ON")

    @contextmanager
    def writing(self) -> Iterator[None]:
        lock = _WRITERS.get().setdefault(self._path, threading.Lock())
        if not lock.acquire(timeout=dialects.PATIENCE_SECONDS):
            raise StorageUnavailable("busy")
        try:
            yield
        finally:
            lock.release()

    def begin(self, connection: Connection) -> None:
        connection.begin()
        if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
            # A `begin` listener of the application began one that cannot become a writer's.
            connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        # BEGIN IMMEDIATE has locked all of the file.
        return nullcontext()

    def require_durability(self, connection: Connection) -> None:
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if synchronous < self._FULL or journal in self._NO_JOURNAL:
            raise SchemaMismatch(
                "this SQLite engine may lose a committed token: set PRAGMA synchronous=FULL and a "
                "journal_mode other than OFF and MEMORY, or give the storage a URL"
            )

    def insertion(self, table: Table) -> Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def newest(self, table: Table) -> Insert:
        return upsert(sqlite.insert(table), table=table)

    def driver_fault(self, error: BaseException | None) -> Fault:
        # The low byte is SQLite's primary result code, the rest a detail of it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return Fault(self._REASONS.get(code, "unavailable"))
