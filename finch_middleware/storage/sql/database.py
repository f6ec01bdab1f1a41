"""Transactions and reads on an engine: what is retried, and which error is raised."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, Pool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.forks import PerProcess
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Fault, dialect_of

T = TypeVar("T")

#: Tries of a transaction that the database rolls back: a deadlock, a lost race.
_TRIES = 4


class Database:
    """
    An engine, ours or the application's. All statements go through this class.

    Connections are in autocommit, and transactions begin and end by statements: SQLite's can
    then begin as a writer's without a listener that would change the application's own.

    Attributes:
        dialect: What its database does differently.
    """

    def __init__(
        self, url_or_engine: str | URL | Engine, *, preparation: Callable[[Connection], None]
    ) -> None:
        self._shared = isinstance(url_or_engine, Engine)
        if isinstance(url_or_engine, Engine):
            engine = url_or_engine
            self.dialect = dialect_of(engine.dialect.name, url=engine.url)
        else:
            url = _parsed(url_or_engine)
            self.dialect = dialect_of(url.get_backend_name(), url=url)
            engine = _engine(url, self.dialect.engine_options())
            dialect = self.dialect
            event.listen(engine, "connect", lambda opened, _: dialect.opened(opened))
        self._engine = engine
        self._preparation = preparation
        self._process = PerProcess(partial(_enter_process, engine, parent=os.getpid()))
        if not self._shared:
            # An engine of ours ends with this object; the application ends its own.
            weakref.finalize(self, _dispose, engine, self._process)

    def prepare(self) -> None:
        """
        Run the preparation once per process.

        Raises:
            SchemaMismatch: As the preparation says.
            StorageUnavailable: It could not be run; the next call tries again.
        """
        process = self._process.get()
        if process.prepared:
            return
        # A thread that has waited for another's preparation does not wait for its own as well.
        if not process.preparing.acquire(timeout=dialects.PATIENCE_SECONDS):
            raise StorageUnavailable("busy")
        try:
            if not process.prepared:
                self.transact(self._preparation)
                process.prepared = True
        finally:
            process.preparing.release()

    def write(self, work: Callable[[Connection], T]) -> T:
        """
        Do *work* in one durable transaction, again where the database rolled it back.

        Raises:
            StorageUnavailable: The commit was not confirmed.
        """
        self._require_prepared()
        return self.transact(work)

    def read(self, statement: Executable, **values: Any) -> list[dict[str, Any]]:
        """
        The rows of *statement*, as last committed.

        Raises:
            StorageUnavailable: There was no answer.
        """
        self._require_prepared()
        try:
            with self._connection() as connection, self.dialect.reading(connection):
                return [row._asdict() for row in connection.execute(statement, values)]
        except (SQLAlchemyError, UnicodeError, OSError) as error:
            fault = self.dialect.fault(error)
        except (ValueError, TypeError, AttributeError):
            # SQLite stores any text in a column of instants.
            fault = Fault("unreadable")
        # Not inside the except block: the error beneath holds the bound parameters.
        raise StorageUnavailable(fault.reason)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """`write`, also before the tables are known to exist."""
        fault = Fault("unavailable", passing=True)
        tries = 0
        while fault.passing and tries < _TRIES:
            tries += 1
            try:
                with self.dialect.writing(), self._transaction() as connection:
                    return work(connection)
            except (SQLAlchemyError, UnicodeError, OSError) as error:
                fault = self.dialect.fault(error)
        raise StorageUnavailable(fault.reason)

    def close(self) -> None:
        """Close the pooled connections of our own engine; the next use opens new ones."""
        if not self._shared:
            _dispose(self._engine, self._process)

    def _require_prepared(self) -> None:
        try:
            return self.prepare()
        except SchemaMismatch:
            pass
        raise StorageUnavailable("schema_mismatch")

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection in autocommit; a shared one is restored before the pool gets it back."""
        self._process.get()
        with self._engine.connect() as connection:
            if not self._shared:
                yield connection
                return
            connection.execution_options(isolation_level="AUTOCOMMIT")
            with self.dialect.borrowing(connection):
                yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._connection() as connection:
            try:
                self.dialect.begin(connection)
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:  # raised again below
                # The database rolls back when the connection is closed, whatever its state, and
                # the pool never hands out a connection inside a transaction.
                connection.invalidate()
                raise


def _parsed(url: str | URL) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        pass
    # SQLAlchemy's own message repeats the URL, password included.
    raise ConfigurationError(
        ["The storage URL cannot be parsed: write dialect+driver://user:password@host/database."]
    )


def _engine(url: URL, options: dict[str, Any]) -> Engine:
    try:
        return create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_timeout=dialects.PATIENCE_SECONDS,
            **options,
        )
    except (ArgumentError, ImportError):
        pass
    raise ConfigurationError(
        [f"The driver of {url.drivername} is not installed: install it with pip."]
    )


@dataclass(slots=True)
class _Process:
    """What one process knows of the database."""

    prepared: bool = False
    preparing: threading.Lock = field(default_factory=threading.Lock)


def _enter_process(engine: Engine, *, parent: int) -> _Process:
    """In a forked child, leave the parent's connections to the parent, without closing them."""
    if os.getpid() != parent:
        # A connection closed here would say goodbye on the parent's socket, and SQLite would
        # remove locks and files that the parent uses: the list keeps them from being collected.
        _POOLS_OF_PARENTS.append(engine.pool)
        engine.dispose(close=False)
    return _Process()


def _dispose(engine: Engine, process: PerProcess[_Process]) -> None:
    process.get()
    engine.dispose()


_POOLS_OF_PARENTS: list[Pool] = []
