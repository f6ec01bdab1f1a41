"""
The threads of a process that write to a database with one writer: they queue, and share commits.

The first in the queue writes. Where others wait behind it, it writes their changes in the same
transaction, which is synced once, and each of them returns as soon as that is committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Connection

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.kept import run

if TYPE_CHECKING:
    from finch_middleware.storage.sql.dialects import Dialect

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Turn(Generic[T]):
    """
    What one thread reads or writes, as a `Database` runs it.

    Attributes:
        database: The one whose connections it needs.
        alone: Runs it on a connection; its result.
        beside: Runs it in a transaction that has begun; None for what only reads, in no queue.
        apart: It shares no transaction with others.
        begun: Not empty once it may have been written, by this thread or another.
        taken: Another thread is writing it.
        results: The result, once another thread's commit is confirmed.
        woken: Held while its thread waits in the queue.
    """

    database: object
    alone: Callable[[Connection], T]
    beside: Callable[[Connection], T] | None = None
    apart: bool = False
    begun: list[Connection] = field(default_factory=list)
    taken: bool = False
    results: list[T] = field(default_factory=list)
    woken: threading.Lock = field(default_factory=threading.Lock)

    def share(self, connection: Connection) -> T:
        """Run it in a transaction that has begun."""
        assert self.beside is not None
        return self.beside(connection)

    def result(self) -> T:
        """The result, where another thread has sent the commit."""
        if self.results:
            return self.results[0]
        raise StorageUnavailable("unavailable")


class WriteQueue:
    """
    The turns of one process that write to one file, in the order in which they came.

    Attributes:
        turns: The first one writes; a dictionary, because any may leave.
        changing: Held while one of them enters, leaves, or is taken.
    """

    def __init__(self) -> None:
        self.turns: dict[Turn[Any], None] = {}
        self.changing = threading.Lock()

    def wait(self, turn: Turn[Any]) -> bool:
        """
        Wait until *turn* is the first: True; or until another thread has written it: False.

        Raises:
            StorageUnavailable: ``busy``: neither in time. Nothing is written then, unless the
                other thread's commit takes as long again.
        """
        waits = 0
        while True:
            with self.changing:
                if self._first() is turn:
                    return True
                if turn not in self.turns:
                    return False
                # A thread that has taken it has begun its transaction, and ends it soon.
                if waits == (2 if turn.taken else 1):
                    # From here on, no thread can take it.
                    del self.turns[turn]
                    raise StorageUnavailable("busy")
                # It may be held from an earlier try.
                turn.woken.acquire(blocking=False)
            turn.woken.acquire(timeout=dialects.PATIENCE_SECONDS)
            waits += 1

    def wake_first(self) -> None:
        """Let the thread write whose turn has become the first."""
        with self.changing:
            first = self._first()
            if first is not None:
                _wake(first)

    def write(self, dialect: Dialect, turn: Turn[T], connection: Connection) -> T:
        """Write *turn*, the first one, and those behind it in one transaction; its result."""
        dialect.begin(connection)
        # Not earlier: while another process has the file, a thread may give up.
        taken = self._take(turn)
        written: dict[Turn[Any], Any] = {}
        try:
            written[turn] = turn.share(connection)
            for each in taken:
                _add(each, to=written, connection=connection)
            for each in written:
                each.begun.append(connection)
            dialect.commit(connection, ())
            for each, result in written.items():
                each.results.append(result)
        finally:
            self._let_go(taken)
        return turn.result()

    def _take(self, turn: Turn[Any]) -> list[Turn[Any]]:
        with self.changing:
            taken = [
                each
                for each in self.turns
                if each is not turn and each.database is turn.database and not each.apart
            ]
            for each in taken:
                each.taken = True
        return taken

    def _let_go(self, taken: list[Turn[Any]]) -> None:
        """Those that may be written leave; the others wait until their own thread writes."""
        with self.changing:
            for each in taken:
                each.taken = False
                if each.begun:
                    self.turns.pop(each, None)
                    _wake(each)

    def _first(self) -> Turn[Any] | None:
        return next(iter(self.turns), None)


def _add(turn: Turn[Any], *, to: dict[Turn[Any], Any], connection: Connection) -> None:
    """Write one more turn; where that fails, its own thread writes it later, and raises."""
    run(connection, "SAVEPOINT turn")
    with suppress(Exception):  # whatever it is, the others' changes are not affected
        to[turn] = turn.share(connection)
    if turn not in to:
        run(connection, "ROLLBACK TO turn")
    run(connection, "RELEASE turn")


def _wake(turn: Turn[Any]) -> None:
    if turn.woken.locked():
        turn.woken.release()
