"""Transactions and reads on an engine: what is retried, and which error is raised."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from finch_middleware.storage.sql.dialects import Dialect, dialect_of
from finch_middleware.storage.sql.kept import OURS, Bound, Kept
from finch_middleware.storage.sql.pools import await_room

T = TypeVar("T")

#: What a transaction does, given the counts of its first statements: its result, its last changes.
Work = Callable[[Connection, list[int]], tuple[T, Iterable[Bound]]]

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

    def prepare(self) -> _Process:
        """
        Run the preparation once per process, and again where the URL leads elsewhere by now.

        Raises:
            SchemaMismatch: As the preparation says.
            StorageUnavailable: It could not be run; the next call tries again.
        """
        process = self._process[os.getpid()]
        if process.place == self.dialect.place():
            return process
        # A thread that has waited for another's preparation does not wait for its own as well.
        if not process.preparing.acquire(timeout=dialects.PATIENCE_SECONDS):
            raise StorageUnavailable("busy")
        try:
            if process.place != self.dialect.place():
                self.transact(self._preparation)
                process.place = self.dialect.place()
        finally:
            process.preparing.release()
        return process

    def write(self, work: Callable[[Connection], T]) -> T:
        """
        Do *work* in one durable transaction, again where the database rolled it back.

        Raises:
            StorageUnavailable: The commit was not confirmed.
        """
        return self.finish((), lambda db, _: (work(db), ()))

    def finish(self, first: Sequence[Bound], work: Work[T]) -> T:
        """
        `write`; a server may get several statements at once.

        The *first* ones together with the beginning: *work* gets how many rows each changed. The
        changes that it returns too, together with the commit.
        """
        process = self._prepared()
        return self._transact(first, work, writer=process.writer, place=process.place)

    def change(self, statement: Kept, values: Mapping[str, Any]) -> None:
        """
        Run one statement in a durable transaction of its own; it has no effect a second time.

        Raises:
            StorageUnavailable: The commit was not confirmed.
        """
        process, bound = self._prepared(), (statement, values)
        self._run(
            lambda connection: self._commit(connection, self.dialect.change, bound),
            place=process.place,
            writer=process.writer,
        )

    def read(self, statement: Kept, **values: Any) -> list[dict[str, Any]]:
        """
        The rows of *statement*, as last committed.

        Raises:
            StorageUnavailable: There was no answer.
        """
        process, bound = self._prepared(), (statement, values)
        return self._run(
            lambda connection: self.dialect.read(connection, bound), place=process.place
        )

    def transact(self, work: Callable[[Connection], T]) -> T:
        """`write`, also before the tables are known to exist."""
        writer = self._process[os.getpid()].writer
        return self._transact((), lambda db, _: (work(db), ()), writer=writer, place=None)

    def _transact(
        self,
        first: Sequence[Bound],
        work: Work[T],
        *,
        writer: threading.Lock | None,
        place: object,
    ) -> T:
        begun: list[Connection] = []

        def use(connection: Connection) -> T:
            begun.clear()
            counts = self.dialect.begin(connection, first)
            begun.append(connection)
            result, changes = work(connection, counts)
            self._commit(connection, self.dialect.commit, changes)
            return result

        return self._run(use, place=place, writer=writer, begun=begun)

    def _commit(
        self, connection: Connection, commit: Callable[[Connection, T], None], changes: T
    ) -> None:
        commit(connection, changes)
        if not self.dialect.current(connection, self.dialect.place()):
            raise StorageUnavailable("replaced")

    def _run(
        self,
        use: Callable[[Connection], T],
        *,
        place: object,
        writer: threading.Lock | None = None,
        begun: Sequence[object] = (),
    ) -> T:
        """
        What *use* returns of a connection; again where the database rolled it back.

        Also where the pool's session had ended, unless *begun* has members by then: what was begun
        may have been written.
        """
        deadline = time.monotonic() + dialects.PATIENCE_SECONDS
        for _ in range(_TRIES):
            if writer is not None and not writer.acquire(timeout=dialects.PATIENCE_SECONDS):
                raise StorageUnavailable("busy")
            try:
                return self._with_connection(use, place)
            except StorageFault:
                raise
            except Exception as error:  # a driver raises anything, if a server sends rubbish
                fault = self.dialect.fault(error)
                # A session that has ended fails at once. A slow one has had its time.
                stale = _has_ended(error) and not begun and time.monotonic() < deadline
            finally:
                if writer is not None:
                    writer.release()
            if fault.passing and fault.reason == "read_only":
                # Every idle session may be one with a former primary, the application's too.
                self._engine.dispose()
            if not fault.passing and not stale:
                break
        # Not inside the except block: the error beneath holds the bound parameters.
        raise StorageUnavailable(fault.reason, fix=fault.fix)

    def close(self) -> None:
        """Close the pooled connections of our own engine; the next use opens new ones."""
        if not self._shared:
            _dispose(self._engine, self._process)

    def _prepared(self) -> _Process:
        """This process, in which the preparation was run."""
        try:
            return self.prepare()
        except SchemaMismatch:
            pass
        raise StorageUnavailable("schema_mismatch")

    def _with_connection(self, use: Callable[[Connection], T], place: object) -> T:
        """
        What *use* returns of a connection in autocommit; a shared one is restored afterwards.

        After an error it is closed instead: the database then rolls back, whatever its state,
        and no other user reads the rest of a response.
        """
        if self._shared:
            await_room(self._engine.pool)
        with self._engine.connect() as connection:
            try:
                self._make_current(connection, place)
                if not self._shared:
                    return use(connection)
                self._set_autocommit(connection)
                with self.dialect.borrowing(connection):
                    return use(connection)
            except BaseException:  # raised again
                connection.invalidate()
                raise

    def _make_current(self, connection: Connection, place: object) -> None:
        for _ in range(_STALE):
            # Opening a connection may make the file.
            if self.dialect.current(connection, self.dialect.place() if place is None else place):
                return
            # The next one that the pool gives may be as old.
            connection.invalidate()
            place = None
        raise StorageUnavailable("replaced")

    def _set_autocommit(self, connection: Connection) -> None:
        try:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        except Exception:  # the driver's own: SQLAlchemy wraps errors of statements only
            # If the session has ended, SQLAlchemy notices it here, for all of the pool.
            connection.exec_driver_sql("SELECT 1")
            raise


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

    #: The place for which the preparation was run; equal to none before.
    place: object = field(default_factory=object)
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


def _has_ended(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _dispose(engine: Engine, process: PerProcess[_Process]) -> None:
    process[os.getpid()]
    engine.dispose()


_POOLS_OF_PARENTS: list[Pool] = []
