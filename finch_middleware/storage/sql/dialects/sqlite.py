"""SQLite: one file, one writer, every commit synced."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    event,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import ConfigurationError, StorageUnavailable
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import PLACE, Dialect, Fault, Replaced, RowOrder
from finch_middleware.storage.sql.kept import Bound, Kept, run
from finch_middleware.storage.sql.write_queue import WriteQueue

#: What is noted of a connection: the file that it has open, and the log that it first wrote to.
_FILE, _LOG = "finch_middleware.file", "finch_middleware.log"

#: The bytes that SQLite locks for a writer (WAL_WRITE_LOCK, RESERVED_BYTE).
_WRITER_IN_INDEX, _WRITER_IN_FILE = 120, 0x40000001
_END_OF_FILE = str(2**63)

# In one process, one writer at a time for each file: SQLite's waiters poll, and some starve.
_QUEUES: PerProcess[dict[str, WriteQueue]] = PerProcess(dict)


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
    _CANNOT_OPEN = 14
    _FULL = 2
    _NO_JOURNAL = ("off", "memory")

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        database = url.database or ":memory:"
        if ":memory:" in database or "mode=memory" in database:
            raise ConfigurationError(
                ["An SQLite database in memory loses its tokens: name a file, or use memory://."]
            )
        self._makes_file = url.query.get("mode", "rwc") == "rwc"
        # The file that a link names now is opened; the link itself may be changed later.
        self._path = os.path.abspath(_plain_path(database))
        self._queue_key = os.path.realpath(self._path)

    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": {"timeout": dialects.PATIENCE_SECONDS}}

    def session_seconds(self) -> float:
        return math.inf

    def listen(self, engine: Engine) -> None:
        super().listen(engine)
        self.observe(engine)

    def observe(self, engine: Engine) -> None:
        # Before any other listener writes to the file.
        event.listen(engine, "connect", self._note_file, insert=True)

    def connect(self, arguments: Any, options: dict[str, Any]) -> Any:
        if self._makes_file:
            _make_private(self._path)

    def opened(self, driver_connection: Any) -> None:
        with suppress(driver_connection.OperationalError):
            # Refused while another process does the same.
            driver_connection.execute("PRAGMA journal_mode=WAL")
        driver_connection.execute("PRAGMA synchronous=FULL")
        # On macOS, fsync alone leaves the bytes in the drive's cache.
        driver_connection.execute("PRAGMA fullfsync=ON")

    @contextmanager
    def borrowing(self, connection: Connection) -> Iterator[None]:
        driver: Any = connection.connection.dbapi_connection
        before = _busy_timeout(driver)
        driver.execute(f"PRAGMA busy_timeout = {math.ceil(dialects.PATIENCE_SECONDS * 1000)}")
        _end_transaction_of_listener(connection)
        yield
        driver.execute(f"PRAGMA busy_timeout = {before}")

    def write_queue(self) -> WriteQueue:
        return _QUEUES[os.getpid()].setdefault(self._queue_key, WriteQueue())

    def begin(self, connection: Connection, first: Sequence[Bound] = ()) -> list[int]:
        self._as_writer(connection, lambda: run(connection, "BEGIN IMMEDIATE"))
        return [kept.count(connection, values) for kept, values in first]

    def change(self, connection: Connection, statement: Bound) -> int:
        kept, values = statement
        count = self._as_writer(connection, lambda: kept.count(connection, values))
        self._require_current(connection)
        return count

    def _as_writer(self, connection: Connection, step: Callable[[], int]) -> int:
        """What *step* returns, which waits until no other process writes."""
        notes = self._require_current(connection)
        try:
            result = step()
        except OperationalError:
            # No other turn of ours writes to the file: this one is the first in its queue.
            if not self._locked_by_this_process():
                raise
        else:
            if _LOG not in notes:
                notes[_LOG] = _Log(os.path.realpath(self._path) + "-wal")
                # The preparation writes first, so there are tables when it has ended.
                notes[PLACE] = notes[_FILE]
            return result
        # Not inside the except block, as everywhere.
        raise StorageUnavailable("own_transaction")

    def read(self, connection: Connection, statement: Bound) -> list[dict[str, Any]]:
        self._require_current(connection)
        kept, values = statement
        return kept.rows(connection, values)

    def commit(self, connection: Connection, changes: Iterable[Bound]) -> None:
        for kept, values in changes:
            kept.count(connection, values)
        run(connection, "COMMIT")
        self._require_current(connection)

    def _require_current(self, connection: Connection) -> dict[Any, Any]:
        """What is noted of the connection, while it leads to the path's file and its log."""
        notes = connection.info
        # A connection from before this storage has no note, and is opened again.
        if notes.get(_FILE, "") != _identity(self._path):
            raise Replaced
        log = notes.get(_LOG)
        if log is not None and log.found and log.look(log.place) != log.found:
            raise Replaced
        return notes

    def _note_file(self, _: object, record: Any) -> None:
        # The file may be removed or replaced under a server. A new one may have its number, and has
        # no tables then.
        file = record.info[_FILE] = _identity(self._path)
        record.info[PLACE] = object() if _is_empty(self._path) else file

    def _locked_by_this_process(self) -> bool:
        """Whether this process holds the lock of a writer, in the log's index or in the file."""
        index = _identity(os.path.realpath(self._path) + "-shm")
        locks = {index: _WRITER_IN_INDEX, _identity(self._path): _WRITER_IN_FILE}
        inodes = {file[1]: byte for file, byte in locks.items() if file}
        return any(
            first <= inodes.get(inode, -1) <= last for inode, first, last in _locks_for_writing()
        )

    def volatile(self, connection: Connection, *, tables: Iterable[Table]) -> str | None:
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if synchronous < self._FULL or journal in self._NO_JOURNAL:
            return (
                "set PRAGMA synchronous=FULL and a journal_mode other than OFF and MEMORY, "
                "or give the storage a URL"
            )
        return None

    def insertion(self, table: Table) -> Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def row_order(self, table: Table) -> RowOrder:
        # Rows are stored by rowid. In the order of the hashes, each row is on another page, which
        # costs four times as much to read and to write. VACUUM keeps the rowids of a table with an
        # index (https://sqlite.org/src, xferOptimization in insert.c).
        return RowOrder(
            place=literal_column("rowid", Integer),
            start=-(2**63),
            # The sign keeps SQLite from using the index, and so from sorting for every batch.
            hashed=literal_column("+connection_hash", LargeBinary),
        )

    def replacement(self, table: Table) -> Kept:
        # The place, where the scan has it, costs a third of a search in the index.
        place = literal_column("rowid", Integer)
        found = select(place).where(table.c.connection_hash == bindparam("of_hash")).correlate(None)
        given = bindparam("of_place", type_=Integer)
        return Kept(
            update(table)
            .values(sealed=bindparam("new_sealed"))
            .where(
                place == func.coalesce(given, found.scalar_subquery()),
                table.c.sealed == bindparam("of_sealed"),
            )
        )

    def driver_fault(self, error: BaseException | None) -> Fault:
        # The low byte is SQLite's primary result code, the rest a detail of it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        folder = os.path.dirname(os.path.realpath(self._path))
        if code == self._CANNOT_OPEN and not os.path.isdir(folder):
            fix = f"the folder {folder} does not exist: create it, or correct the path"
            return Fault("unavailable", fix=fix)
        return Fault(self._REASONS.get(code, "unavailable"))


def _end_transaction_of_listener(connection: Connection) -> None:
    """A `begin` listener of the application begins one that cannot become a writer's."""
    connection.begin()
    if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
        connection.exec_driver_sql("ROLLBACK")


def _plain_path(database: str) -> str:
    """The path in an SQLite database's name, which may be a URI."""
    if not database.startswith("file:"):
        return database
    return unquote(urlsplit(database).path)


def _make_private(path: str) -> None:
    """Make the file unless it exists: SQLite would let everybody read it, its log and its index."""
    # What prevents it, SQLite reports.
    with suppress(OSError):
        try:
            # Without opening it: closing a file ends all locks that the process has on it.
            os.mknod(path, 0o600 | stat.S_IFREG)
        except (PermissionError, AttributeError):
            # On macOS and Windows.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def _identity(path: str) -> tuple[int, int] | None:
    """The device and inode of the file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: str) -> bool:
    with suppress(OSError):
        return os.path.getsize(path) == 0
    # The application's engine opens another file than its URL names.
    return False


class _Log:
    """
    The log that a connection writes ahead to.

    Since Linux 6.13, a file whose times were read by `os.stat` gets an exact time with its next
    write, and to sync that takes a third longer. The name of a descriptor reads no time.

    Attributes:
        look, place: ``look(place)`` is `found` until somebody removes or replaces the log.
        found: None if there is no log.
    """

    def __init__(self, path: str) -> None:
        self.look: Callable[[str], object] = _identity
        self.found: object = _identity(path)
        self.place, self._descriptor = path, -1
        # Only Linux has both, and closing such a descriptor ends no locks.
        with suppress(AttributeError, OSError):
            self._descriptor = os.open(path, os.O_PATH)
            link = f"/proc/{os.getpid()}/fd/{self._descriptor}"
            if os.readlink(link) == path:
                self.look, self.place, self.found = os.readlink, link, path

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _busy_timeout(driver: Any) -> int:
    cursor = driver.cursor()
    # The application's may make dictionaries.
    cursor.row_factory = None
    return int(cursor.execute("PRAGMA busy_timeout").fetchone()[0])


def _locks_for_writing() -> Iterator[tuple[int, int, int]]:
    """The inode and range of every lock that this process holds, where the system shows it."""
    with suppress(OSError), open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            fields = line.split()
            # A line of one that waits has an arrow more.
            if len(fields) == 8 and fields[3] == "WRITE" and fields[4] == str(os.getpid()):
                first, last = fields[6], fields[7].replace("EOF", _END_OF_FILE)
                yield int(fields[5].rpartition(":")[2]), int(first), int(last)
