"""
One transaction for what several threads want to write, where only one of them may write at a time.

It is synced once for all of them, and they wait for each other less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.dialects import Dialect, RolledBack

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Turn(Generic[T]):
    """
    What one thread wants of the database.

    Attributes:
        alone: Does it on a connection of its own; its result.
        beside: Does it in a transaction with others' work; None where nothing is written.
        apart: It is not done beside others' work any more.
        begun: Not empty once it may have been written, by this thread or another.
        results: The result, once another thread's commit is confirmed.
    """

    alone: Callable[[Connection], T]
    beside: Callable[[Connection], T] | None = None
    apart: bool = False
    begun: list[Connection] = field(default_factory=list)
    results: list[T] = field(default_factory=list)

    def outcome(self) -> T:
        """What came of it in another thread's transaction."""
        if self.results:
            return self.results[0]
        raise StorageUnavailable("unavailable")


def write_all(dialect: Dialect, turns: Sequence[Turn[Any]], connection: Connection) -> Any:
    """
    Write in one transaction what all of these want; the result of the first one.

    Raises:
        RolledBack: Nothing is written, because one of them failed; each is tried alone then.
    """
    dialect.begin(connection)
    results: list[Any] = []
    with suppress(Exception):  # whose fault it was, each finds out alone
        results += [turn.beside(connection) for turn in turns if turn.beside]
    if len(results) < len(turns):
        for turn in turns:
            turn.apart = True
        raise RolledBack
    for turn in turns:
        turn.begun.append(connection)
    dialect.commit(connection, ())
    for turn, result in zip(turns, results, strict=True):
        turn.results.append(result)
    return results[0]
