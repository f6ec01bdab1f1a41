"""Transactions and reads on an engine: what is retried, and which error is raised."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Pool, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from finch_middleware.errors import (
    ConfigurationError,
    SchemaMismatch,
    StorageFault,
    StorageUnavailable,
)
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault, dialect_of
from finch_middleware.storage.sql.kept import OURS, Bound, Kept
from finch_middleware.storage.sql.pools import await_room

T = TypeVar("T")

#: Tries of a transaction that the database rolls back: a deadlock, a lost race.
_TRIES = 4

#: Connections of one pool to a file that was replaced.
_STALE = 100


class Database:
    """
    An engine, ours or the application's. All statements go through this class.

    Connections are in autocommit, and transactions begin and end by statements: SQLite's can
    then begin as a writer's without a listener that would change the application's own.
    Whatever a driver raises becomes a `StorageUnavailable`.

    Attributes:
        dialect: What its database does differently.
    """

    def __init__(
        self, url_or_engine: URL | Engine, *, preparation: Callable[[Connection], None]
    ) -> None:
        self._shared = isinstance(url_or_engine, Engine)
        if isinstance(url_or_engine, Engine):
            engine = url_or_engine
            self.dialect = dialect_of(engine.dialect.name, url=engine.url)
            self.dialect.observe(engine)
        else:
            self.dialect = dialect_of(url_or_engine.get_backend_name(), url=url_or_engine)
            engine = _engine(url_or_engine, self.dialect.engine_options())
            self.dialect.listen(engine)
        self._engine = engine
        self._preparation = preparation
        self._process = PerProcess(
            partial(_enter_process, engine, self.dialect, parent=os.getpid())
        )
        if not self._shared:
            # An engine of ours ends with this object; the application ends its own.
            weakref.finalize(self, _dispose, engine, self._process)

    def prepare(self) -> None:
        """
        Run the preparation once per process, and again where the URL leads elsewhere by now.

        Raises:
            SchemaMismatch: As the preparation says.
            StorageUnavailable: It could not be run; the next call tries again.
        """
        process = self._process.get()
        if process.prepared == (self.dialect.place(),):
            return
        # A thread that has waited for another's preparation does not wait for its own as well.
        if not process.preparing.acquire(timeout=dialects.PATIENCE_SECONDS):
            raise StorageUnavailable("busy")
        try:
            if process.prepared != (self.dialect.place(),):
                self.transact(self._preparation)
                process.prepared = (self.dialect.place(),)
        finally:
            process.preparing.release()

    def write(self, work: Callable[[Connection], T]) -> T:
        """
        Do *work* in one durable transaction, again where the database rolled it back.

        Raises:
            StorageUnavailable: The commit was not confirmed.
        """
        return self._transact(self._prepared(), lambda db: (work(db), ()))

    def finish(self, work: Callable[[Connection], tuple[T, Iterable[Bound]]]) -> T:
        """`write`; the changes that *work* returns too are written together with the commit."""
        return self._transact(self._prepared(), work)

    def change(self, statement: Kept, values: Mapping[str, Any]) -> None:
        """
        Run one statement in a durable transaction of its own; it has no effect a second time.

        Raises:
            StorageUnavailable: The commit was not confirmed.
        """
        process = self._prepared()
        bound = (statement, values)

        def use(connection: Connection) -> None:
            self.dialect.change(connection, bound)
            self._require_current(connection)

        self._until_kept(process, lambda: self._with_live_session(use))

    def read(self, statement: Kept, **values: Any) -> list[dict[str, Any]]:
        """
        The rows of *statement*, as last committed.

        Raises:
            StorageUnavailable: There was no answer.
        """
        self._prepared()
        try:
            return self._with_live_session(
                lambda connection: self.dialect.read(connection, (statement, values))
            )
        except StorageFault:
            raise
        except Exception as error:  # a driver raises anything, if a server sends rubbish
            fault = self.dialect.fault(error)
        # Not inside the except block: the error beneath holds the bound parameters.
        raise StorageUnavailable(fault.reason, fix=fault.fix)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """`write`, also before the tables are known to exist."""
        return self._transact(self._process.get(), lambda db: (work(db), ()))

    def _transact(
        self, process: _Process, work: Callable[[Connection], tuple[T, Iterable[Bound]]]
    ) -> T:
        return self._until_kept(process, lambda: self._transact_once(work))

    def _transact_once(self, work: Callable[[Connection], tuple[T, Iterable[Bound]]]) -> T:
        begun: list[Connection] = []

        def use(connection: Connection) -> T:
            self.dialect.begin(connection)
            begun.append(connection)
            result, changes = work(connection)
            self._commit(connection, changes)
            return result

        return self._with_live_session(use, unless=begun)

    def _commit(self, connection: Connection, changes: Iterable[Bound]) -> None:
        self.dialect.commit(connection, changes)
        self._require_current(connection)

    def _until_kept(self, process: _Process, once: Callable[[], T]) -> T:
        """What *once* returns when the database does not roll it back."""
        fault = Fault("unavailable", passing=True)
        tries = 0
        while fault.passing and tries < _TRIES:
            tries += 1
            try:
                with _turn(process.writer):
                    return once()
            except StorageFault:
                raise
            except Exception as error:  # a driver raises anything, if a server sends rubbish
                fault = self.dialect.fault(error)
            if fault.passing and fault.reason == "read_only":
                # Every idle session may be one with a former primary, the application's too.
                self._engine.dispose()
        raise StorageUnavailable(fault.reason, fix=fault.fix)

    def close(self) -> None:
        """Close the pooled connections of our own engine; the next use opens new ones."""
        if not self._shared:
            _dispose(self._engine, self._process)

    def _prepared(self) -> _Process:
        """This process, in which the preparation was run."""
        process = self._process.get()
        if process.prepared == (self.dialect.place(),):
            return process
        try:
            self.prepare()
        except SchemaMismatch:
            pass
        else:
            return process
        raise StorageUnavailable("schema_mismatch")

    def _with_live_session(
        self, use: Callable[[Connection], T], *, unless: Sequence[object] = ()
    ) -> T:
        """
        What *use* returns; once more, with a fresh session, where the pool's had ended.

        Not if *unless* has members by then: what was begun may have been written.
        """
        began = time.monotonic()
        try:
            return self._with_connection(use)
        except DBAPIError as error:
            # A session that has ended fails at once. A slow one has had its time.
            late = time.monotonic() - began > dialects.PATIENCE_SECONDS
            if late or unless or not error.connection_invalidated:
                raise
        return self._with_connection(use)

    def _with_connection(self, use: Callable[[Connection], T]) -> T:
        """
        What *use* returns of a connection in autocommit; a shared one is restored afterwards.

        After an error it is closed instead: the database then rolls back, whatever its state,
        and no other user reads the rest of a response.
        """
        if self._shared:
            await_room(self._engine.pool)
        with self._engine.connect() as connection:
            try:
                self._make_current(connection)
                if not self._shared:
                    return use(connection)
                self._set_autocommit(connection)
                with self.dialect.borrowing(connection):
                    return use(connection)
            except BaseException:  # raised again
                connection.invalidate()
                raise

    def _make_current(self, connection: Connection) -> None:
        for _ in range(_STALE):
            if self.dialect.current(connection):
                return
            # The next one that the pool gives may be as old.
            connection.invalidate()
        raise StorageUnavailable("replaced")

    def _set_autocommit(self, connection: Connection) -> None:
        try:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        except Exception:  # the driver's own: SQLAlchemy wraps errors of statements only
            # If the session has ended, SQLAlchemy notices it here, for all of the pool.
            connection.exec_driver_sql("SELECT 1")
            raise

    def _require_current(self, connection: Connection) -> None:
        if not self.dialect.current(connection):
            raise StorageUnavailable("replaced")


def _engine(url: URL, options: dict[str, Any]) -> Engine:
    try:
        return create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            execution_options={OURS: True},
            # Each transaction ends by a statement, and after an error the session is closed.
            pool_reset_on_return=None,
            pool_timeout=dialects.PATIENCE_SECONDS,
            **options,
        )
    except (ArgumentError, ImportError):
        pass
    raise ConfigurationError(
        [f"The driver of {url.drivername} is not installed: install it with pip."]
    )


@dataclass(slots=True, kw_only=True)
class _Process:
    """What one process knows of the database."""

    #: The place for which the preparation was run, in a tuple; None before.
    prepared: tuple[object] | None = None
    preparing: threading.Lock = field(default_factory=threading.Lock)
    #: Held by the one thread that may write; None where any number may.
    writer: threading.Lock | None


def _enter_process(engine: Engine, dialect: Dialect, *, parent: int) -> _Process:
    """In a forked child, leave the parent's connections to the parent, without closing them."""
    if os.getpid() != parent:
        # A connection closed here would say goodbye on the parent's socket, and SQLite would
        # remove locks and files that the parent uses: the list keeps them from being collected.
        _POOLS_OF_PARENTS.append(engine.pool)
        engine.dispose(close=False)
    return _Process(writer=dialect.writer_lock())


@contextmanager
def _turn(lock: threading.Lock | None) -> Iterator[None]:
    """Wait until this thread may write."""
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=dialects.PATIENCE_SECONDS):
        raise StorageUnavailable("busy")
    try:
        yield
    finally:
        lock.release()


def _dispose(engine: Engine, process: PerProcess[_Process]) -> None:
    process.get()
    engine.dispose()


_POOLS_OF_PARENTS: list[Pool] = []
