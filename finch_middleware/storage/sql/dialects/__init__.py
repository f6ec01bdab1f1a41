"""
The databases that `SQLAlchemyStorage` knows, one file each.

`Dialect` is what differs between databases; `dialect_of` finds the one for a URL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, StatementError, TimeoutError
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import ConfigurationError
from finch_middleware.storage.sql.kept import Bound, Kept, run

if TYPE_CHECKING:
    from finch_middleware.storage.sql.write_queue import WriteQueue

#: Where a connection's `info` notes what the URL led to when it was opened, if that may change.
PLACE = "finch_middleware.place"

#: How long a claim may wait for a lock, a free connection or a statement's end.
PATIENCE_SECONDS = 3

#: A session of ours that is older is replaced, because its address may lead elsewhere by now.
SESSION_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What an error of the database means.

    Attributes:
        reason: The word of `StorageUnavailable`.
        passing: The database rolled back the transaction; a second try may succeed.
        everywhere: Every session that is open by now may have it.
        fix: As that of `StorageUnavailable`.
    """

    reason: str
    passing: bool = False
    everywhere: bool = False
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOrder:
    """
    The order in which a pass over all connections reads them.

    Attributes:
        place: The column by which they are ordered.
        start: Below every place.
        hashed: The connection's hash, for a condition beside the order.
    """

    place: ColumnElement[Any]
    start: bytes | int
    hashed: ColumnElement[Any]


class Replaced(Exception):
    """The connection does not lead where the URL leads."""


UNKNOWN = Fault("unavailable")
#: A fresh session may reach the new primary.
FORMER_PRIMARY = Fault("read_only", passing=True, everywhere=True)

#: What an error means that is not the driver's own.
_FAULTS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Fault], ...] = (
    (Replaced, Fault("replaced", everywhere=True)),
    (TimeoutError, Fault("busy")),
    # DataError among them: for example a NUL in a text, which PostgreSQL refuses.
    ((StatementError, UnicodeEncodeError), Fault("unstorable")),
    # What drivers raise for a value of a row that they do not understand: SQLite stores any text in
    # a column of instants; psycopg implements no reading of them in a DateStyle other than ISO.
    ((ValueError, TypeError, AttributeError, NotImplementedError), Fault("unreadable")),
)


class Dialect(ABC):
    """
    What one database does differently. Everything here runs inside `SQLAlchemyStorage`.

    Each method that runs a statement may raise `Replaced`.
    """

    #: Whether the tables are created at first use, rather than by the operator.
    makes_tables = False

    #: What `describe` shows: a name, and the query for its value.
    facts: ClassVar[Mapping[str, str]]

    def __init__(self, url: URL) -> None:
        self._driver = url.get_driver_name()

    @abstractmethod
    def engine_options(self) -> dict[str, Any]:
        """Arguments of `create_engine` that bound every wait."""

    def session_seconds(self) -> float:
        """How long a session of ours is used."""
        return SESSION_SECONDS

    def listen(self, engine: Engine) -> None:
        """Prepare every connection that *engine*, one of ours, opens."""
        # Before SQLAlchemy's own listener, which reads the session's settings.
        event.listen(engine, "do_connect", lambda _, __, *how: self.connect(*how))
        event.listen(engine, "connect", lambda opened, _: self.opened(opened), insert=True)

    def observe(self, engine: Engine) -> None:  # noqa: B027  # most databases need nothing here
        """Note what must be known of the connections of *engine*, the application's."""

    def connect(self, arguments: Any, options: dict[str, Any]) -> Any:
        """A connection of the driver; None: make it as SQLAlchemy does."""
        return None

    def opened(self, driver_connection: Any) -> None:  # noqa: B027  # most databases need nothing here
        """Prepare a connection that an engine of ours has just opened."""

    def borrowing(self, connection: Connection) -> AbstractContextManager[None]:
        """Set what we need in a session of the application; after no error, restore it."""
        return nullcontext()

    def write_queue(self) -> WriteQueue | None:
        """The queue of this process's threads that write; None where any number may at once."""
        return None

    @abstractmethod
    def begin(self, connection: Connection, first: Sequence[Bound] = ()) -> list[int]:
        """Begin a transaction that writes; how many rows each of its *first* statements changes."""

    def count(self, connection: Connection, statement: Bound) -> int:
        """How many rows *statement* changes; 0 for an `insertion` whose key is taken."""
        kept, values = statement
        return kept.count(connection, values)

    def read(self, connection: Connection, statement: Bound) -> list[dict[str, Any]]:
        """The rows of a SELECT, as last committed, on a connection in autocommit."""
        kept, values = statement
        return kept.rows(connection, values)

    def change(self, connection: Connection, statement: Bound) -> int:
        """How many rows *statement* changes, run alone on a connection in autocommit."""
        return self.count(connection, statement)

    def commit(self, connection: Connection, changes: Iterable[Bound]) -> None:
        """
        Run these *changes* and end the transaction.

        Raises:
            Replaced: See there; the file that was written may have no name any more.
        """
        for kept, values in changes:
            kept.count(connection, values)
        run(connection, "COMMIT")

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        """Keep other processes from creating tables; entered inside a transaction."""
        # A writer of SQLite has locked the whole file.
        return nullcontext()

    def require_unicode(self, connection: Connection) -> None:  # noqa: B027  # most databases need nothing here
        """
        Return when the database stores every text.

        Raises:
            SchemaMismatch: It does not; the message names its encoding.
        """

    @abstractmethod
    def volatile(self, connection: Connection, *, tables: Iterable[Table]) -> str | None:
        """How to make a commit survive a loss of power; None where it does."""

    @abstractmethod
    def insertion(self, table: Table) -> Insert:
        """The statement that inserts a row unless one of its unique keys is taken, for `count`."""

    #: Whether the next statement counts 0 where it has found the key taken.
    counts_insertions = True

    def locking_insertion(self, table: Table) -> Insert:
        """The same; a row that has the key may be locked, and no error is raised for it."""
        return self.insertion(table)

    def row_order(self, table: Table) -> RowOrder:
        """The order that reads the connections of *table* at the least cost."""
        hashed = table.c.connection_hash
        return RowOrder(place=hashed, start=b"", hashed=hashed)

    @abstractmethod
    def replacement(self, table: Table) -> Kept:
        """The statement of `replace_each`."""

    def replace_each(
        self, connection: Connection, replacement: Kept, changes: Mapping[str, Sequence[Any]]
    ) -> int:
        """
        Set `sealed` to ``new_sealed`` where the hash is ``of_hash`` and `sealed` ``of_sealed``.

        Each name has a list of values, that of ``of_place`` the places that are known. How many
        rows that were, or another number where the driver does not count them.
        """
        return replacement.count_each(connection, changes)

    def fault(self, error: Exception) -> Fault:
        """What an error of SQLAlchemy or of the driver means."""
        if isinstance(error, DBAPIError) and not isinstance(error, DataError):
            return self.driver_fault(error.orig)
        return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), UNKNOWN)

    @abstractmethod
    def driver_fault(self, error: BaseException | None) -> Fault:
        """What the driver's own error means, by its number or SQLSTATE."""


def fault_of(code: object, faults: Mapping[Fault, Collection[object]]) -> Fault:
    """The fault that has this code of a server."""
    return next((fault for fault, codes in faults.items() if code in codes), UNKNOWN)


def dialect_of(name: str, *, url: URL) -> Dialect:
    """
    The dialect of the database that SQLAlchemy calls *name*.

    Raises:
        ConfigurationError: It is not supported, or it is in memory.
    """
    # Imported here, because each of them imports this file.
    from finch_middleware.storage.sql.dialects.mysql import MySQL
    from finch_middleware.storage.sql.dialects.postgresql import PostgreSQL
    from finch_middleware.storage.sql.dialects.sqlite import SQLite

    known: dict[str, type[Dialect]] = {
        "sqlite": SQLite,
        "postgresql": PostgreSQL,
        "mysql": MySQL,
        "mariadb": MySQL,
    }
    if name not in known:
        names = ", ".join(known)
        raise ConfigurationError([f"The database {name!r} is not supported; use one of {names}."])
    return known[name](url)
