"""Transactions and reads on an engine: what is retried, and which error is raised."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from finch_middleware.errors import SchemaMismatch, StorageFault, StorageUnavailable
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import PLACE, Dialect, Replaced, dialect_of
from finch_middleware.storage.sql.engines import await_room, own_engine, set_autocommit
from finch_middleware.storage.sql.kept import Bound, Kept
from finch_middleware.storage.sql.write_queue import Turn, WriteQueue

T = TypeVar("T")

#: What a transaction does, given the counts of its first statements: its result, its last changes.
Work = Callable[[Connection, list[int]], tuple[T, Iterable[Bound]]]

#: Tries of a transaction that the database rolls back: a deadlock, a lost race.
_TRIES = 4

#: Sessions of our own engine in one process. They stay open: to open one takes longer than a read.
_SESSIONS = 15

#: The place of a process that has not run the preparation.
_UNPREPARED = object()


class Database:
    """
    An engine, ours or the application's. All statements go through this class.

    Connections are in autocommit, and transactions begin and end by statements: SQLite's can
    then begin as a writer's without a listener that would change the application's own.
    Whatever a driver raises becomes a `StorageUnavailable`: nothing was confirmed.

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
            engine = own_engine(url_or_engine, self.dialect.engine_options())
            self.dialect.listen(engine)
        self._engine = engine
        self._preparation = preparation
        self._process = PerProcess(
            partial(_enter_process, engine, self.dialect, parent=os.getpid())
        )
        weakref.finalize(self, _abandon, self._process)

    def prepare(self) -> object:
        """
        Run the preparation once per process and place to which the URL leads; that place.

        Raises:
            SchemaMismatch: As the preparation says.
            StorageUnavailable: It could not be run; the next call tries again.
        """
        process = self._process[os.getpid()]
        # A thread that has waited for another's preparation does not wait for its own as well.
        if not process.preparing.acquire(timeout=dialects.PATIENCE_SECONDS):
            raise StorageUnavailable("busy")
        try:
            if process.place is _UNPREPARED:
                process.place = self.write(self._prepare_place, prepared=False)
            return process.place
        finally:
            process.preparing.release()

    def write(self, work: Callable[[Connection], T], *, prepared: bool = True) -> T:
        """
        Do *work* in one durable transaction, again where the database rolled it back.

        *prepared*: once the tables are known to exist.
        """
        return self.finish((), lambda db, _: (work(db), ()), prepared=prepared)

    def finish(self, first: Sequence[Bound], work: Work[T], *, prepared: bool = True) -> T:
        """
        `write`; a server may get several statements at once.

        The *first* ones together with the beginning: *work* gets how many rows each changed. The
        changes that it returns too, together with the commit.
        """
        begun: list[Connection] = []

        def alone(connection: Connection) -> T:
            counts = self.dialect.begin(connection, first)
            begun.append(connection)
            result, changes = work(connection, counts)
            self.dialect.commit(connection, changes)
            return result

        def beside(connection: Connection) -> T:
            counts = [self.dialect.count(connection, each) for each in first]
            result, changes = work(connection, counts)
            for each in changes:
                self.dialect.count(connection, each)
            return result

        # The functions do not refer to the turn, or both would wait for Python's collector.
        turn = Turn(database=self, alone=alone, beside=beside, apart=not prepared, begun=begun)
        return self._run(turn, prepared=prepared)

    def change(self, statement: Kept, values: Mapping[str, Any]) -> int:
        """How many rows one statement changes, durably; it may be run again after an error."""
        return self.read_and_change((), (statement, values), convert=list)[1]

    def read_and_change(
        self,
        reads: Sequence[Bound],
        change: Bound,
        *,
        convert: Callable[[list[dict[str, Any]]], T],
    ) -> tuple[list[T], int]:
        """
        What *convert* makes of the rows of each of these *reads*, and then what `change` returns.

        In one session, and in one transaction with the changes of other threads before it.

        Raises:
            StorageUnavailable: `unwritten` where the change was not begun, and will not be.
        """
        dialect, changing = self.dialect, list[Connection]()

        def alone(connection: Connection) -> tuple[list[T], int]:
            found = [convert(dialect.read(connection, each)) for each in reads]
            changing.append(connection)
            return found, dialect.change(connection, change)

        def beside(connection: Connection) -> tuple[list[T], int]:
            found = [convert(kept.rows(connection, values)) for kept, values in reads]
            changing.append(connection)
            return found, dialect.count(connection, change)

        turn = Turn(database=self, alone=alone, beside=beside)
        try:
            return self._run(turn)
        except StorageUnavailable as fault:
            # Another thread that has taken it may still begin it.
            fault.unwritten = not (changing or turn.taken)
            raise

    def read(self, statement: Kept, **values: Any) -> list[dict[str, Any]]:
        """The rows of *statement*, as last committed."""
        bound = (statement, values)
        return self._run(Turn(database=self, alone=lambda db: self.dialect.read(db, bound)))

    def _run(self, turn: Turn[T], *, prepared: bool = True) -> T:
        """
        The result of *turn*; again where the database rolled it back.

        Also where the pool's session had ended, unless it was begun by then: what was begun may
        have been written.
        """
        deadline = time.monotonic() + dialects.PATIENCE_SECONDS
        process = self._process[os.getpid()]
        for _ in range(_TRIES):
            place = process.place
            if prepared and place is _UNPREPARED:
                place = self._prepared()
            turn.begun.clear()
            try:
                return self._once(turn, place, process=process)
            except StorageFault:
                raise
            except Exception as error:  # a driver raises anything, if a server sends rubbish
                fault = self.dialect.fault(error)
                unusable = fault.everywhere or _has_ended(error)
            if unusable:
                self._end_idle(process, everywhere=fault.everywhere)
            # A session that has ended fails at once. A slow one has had its time.
            again = unusable and not turn.begun and time.monotonic() < deadline
            if not (fault.passing or again):
                break
        # Not inside the except block: the error beneath holds the bound parameters.
        raise StorageUnavailable(fault.reason, fix=fault.fix)

    def _once(self, turn: Turn[T], place: object, *, process: _Process) -> T:
        """The result of one try of *turn*, which is in the queue until then if it writes."""
        use = self._with_connection if self._shared else self._with_session
        queue = process.queue
        if turn.beside is None or queue is None:
            return use(turn.alone, place, process=process)
        try:
            with queue.changing:
                queue.turns[turn] = None
                others = len(queue.turns) > 1
            if others and not queue.wait(turn):
                return turn.result()
            work: Callable[[Connection], T] = turn.alone
            if len(queue.turns) > 1 and not turn.apart:
                work = partial(queue.write, self.dialect, turn)
            return use(work, place, process=process)
        finally:
            with queue.changing:
                queue.turns.pop(turn, None)
            if queue.turns:
                queue.wake_first()

    def _end_idle(self, process: _Process, *, everywhere: bool) -> None:
        """Close the idle sessions, unusable as well; *everywhere*, the application's too."""
        process.end_idle()
        if everywhere:
            self._engine.dispose()
            process.place = _UNPREPARED

    def close(self) -> None:
        """Close the sessions of our own engine; the next use opens new ones."""
        self._process[os.getpid()].end_idle()

    def _prepared(self) -> object:
        try:
            return self.prepare()
        except SchemaMismatch:
            pass
        raise StorageUnavailable("schema_mismatch")

    def _prepare_place(self, connection: Connection) -> object:
        self._preparation(connection)
        return connection.info.get(PLACE)

    def _with_session(
        self, use: Callable[[Connection], T], place: object, *, process: _Process
    ) -> T:
        """
        What *use* returns of a session of our own engine.

        After an error it is closed: the database then rolls back, whatever its state, and no
        other user reads the rest of a response.
        """
        try:
            process.room.get(timeout=dialects.PATIENCE_SECONDS)
        except Empty:
            raise StorageUnavailable("busy") from None
        idle = process.idle
        try:
            session = _usable(idle) or self._opened()
            try:
                if place is not _UNPREPARED and place != session.notes.get(PLACE):
                    raise Replaced
                result = use(session.connection)
            except BaseException:  # raised again; the state of the session is unknown
                session.end()
                raise
            idle.append(session)
            if idle is not process.idle:
                _end_all(idle)
            return result
        finally:
            process.room.put(None)

    def _opened(self) -> _Session:
        connection = self._engine.connect()
        # In a forked child, SQLAlchemy would close it at the exit.
        connection.detach()
        return _Session(
            connection=connection,
            driver_connection=connection.connection.dbapi_connection,
            notes=connection.info,
            until=time.monotonic() + self.dialect.session_seconds(),
        )

    def _with_connection(
        self, use: Callable[[Connection], T], place: object, *, process: _Process
    ) -> T:
        """The same of the application's pool, which gets it back as it was."""
        await_room(self._engine.pool)
        with self._engine.connect() as connection:
            try:
                if place is not _UNPREPARED and place != connection.info.get(PLACE):
                    raise Replaced
                set_autocommit(connection)
                with self.dialect.borrowing(connection):
                    return use(connection)
            except BaseException:  # raised again; the state of the session is unknown
                connection.invalidate()
                raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """A connection of our own engine, what is noted of it, and until when it may be used."""

    connection: Connection
    driver_connection: Any
    notes: dict[Any, Any]
    until: float

    def end(self) -> None:
        self.notes.clear()
        # Whatever its state: one that has ended may raise anything.
        with suppress(Exception):
            self.driver_connection.close()


@dataclass(slots=True, kw_only=True)
class _Process:
    """What one process knows of the database, and its sessions of our own engine."""

    #: The place for which the preparation was run, as `PLACE` notes it.
    place: object = _UNPREPARED
    preparing: threading.Lock = field(default_factory=threading.Lock)
    #: Of the threads that write; None where any number may at once.
    queue: WriteQueue | None
    #: One item for each session that may be used beside the others.
    room: SimpleQueue[None] = field(default_factory=lambda: _filled(SimpleQueue()))
    #: The one used last is the next; another deque once these may not be used any longer.
    idle: deque[_Session] = field(default_factory=deque)

    def end_idle(self) -> None:
        """Close all sessions; those that are used now, at the end of their use."""
        idle, self.idle = self.idle, deque()
        _end_all(idle)


def _filled(room: SimpleQueue[None]) -> SimpleQueue[None]:
    for _ in range(_SESSIONS):
        room.put(None)
    return room


def _usable(idle: deque[_Session]) -> _Session | None:
    try:
        session = idle.pop()
    except IndexError:
        return None
    if time.monotonic() < session.until:
        return session
    session.end()
    # The others are older.
    _end_all(idle)
    return None


def _end_all(idle: deque[_Session]) -> None:
    with suppress(IndexError):
        while True:
            idle.popleft().end()


def _enter_process(engine: Engine, dialect: Dialect, *, parent: int) -> _Process:
    """In a forked child, leave the parent's connections to the parent, without closing them."""
    if os.getpid() != parent:
        _OF_PARENTS.append(engine.pool)
        engine.dispose(close=False)
    return _Process(queue=dialect.write_queue())


def _has_ended(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _abandon(process: PerProcess[_Process]) -> None:
    """An engine of ours ends with its `Database`; the application ends its own."""
    for pid, each in process.items():
        if pid == os.getpid():
            each.end_idle()
        else:
            _OF_PARENTS.append(each)


#: A connection closed in a child would say goodbye on the parent's socket, and SQLite would remove
#: locks and files that the parent uses: this list keeps them from being collected.
_OF_PARENTS: list[object] = []
