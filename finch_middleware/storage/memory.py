"""A storage in this process's memory, for tests and demonstrations."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.events import FinchEvent, StoredEvent
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.history import join
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard

K = TypeVar("K")
V = TypeVar("V")


class MemoryStorage(Storage):
    """
    A storage that ends with its process, and that no other process sees.

    It keeps every promise of `Storage` among the threads of one process. Two worker processes
    would each accept the same code, so never use it in production.
    """

    in_process = True

    def __init__(self) -> None:
        # For writers: a reader does one operation on a dictionary, which no other interrupts.
        self._lock = PerProcess(threading.Lock)
        self._attempts: dict[bytes, Attempt] = {}
        self._connections: dict[bytes, StoredConnection] = {}
        self._events: dict[str, StoredEvent] = {}

    def check(self) -> None:
        """Return: memory is always available."""

    def claim(self, attempt: Attempt) -> Attempt | None:
        with self._lock[os.getpid()]:
            current = self._attempts.get(attempt.code_hash) or self._flow_holder(attempt)
            if current is None:
                self._attempts[attempt.code_hash] = attempt
            return current

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return self._attempts.get(code_hash)

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        with self._lock[os.getpid()]:
            if connection is not None:
                self._keep_newest(connection)
            current = self._attempts.get(attempt.code_hash)
            if self._flow_holder(attempt) is not None:
                flow_hash = current.flow_hash if current is not None else None
                attempt = dataclasses.replace(attempt, flow_hash=flow_hash)
            if current is not None and not attempt.replaces(current):
                return current == attempt
            self._attempts[attempt.code_hash] = attempt
            return True

    def release(self, attempt: Attempt) -> None:
        with self._lock[os.getpid()]:
            current = self._attempts.get(attempt.code_hash)
            if current is None or current.attempt_id != attempt.attempt_id:
                return
            if current.state is AttemptState.CLAIMED:
                del self._attempts[attempt.code_hash]

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        attempts = list(self._attempts.values())
        return [each for each in attempts if each.pending and each.leased_until < leased_before]

    def quarantined(self) -> Sequence[Attempt]:
        attempts = list(self._attempts.values())
        return [each for each in attempts if each.state is AttemptState.QUARANTINED]

    def row(self, connection_id: str) -> StoredConnection | None:
        return self._connections.get(connection_hash(connection_id))

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        stored = list(self._connections.values())
        mine = [each for each in stored if each.customer_id == customer_id and each.has_token]
        return sorted(mine, key=lambda each: each.obtained_at, reverse=True)

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start, last = shard.before if after is None else after, shard.last
        stored = {hashed: row for hashed, row in self._connections.copy().items() if row.has_token}
        hashes = sorted(each for each in stored if start < each <= last)[:limit]
        return Scan(rows=[stored[each] for each in hashes], after=hashes[-1] if hashes else None)

    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        hashed = connection_hash(new.connection_id)
        with self._lock[os.getpid()]:
            if self._connections.get(hashed) != old:
                return False
            self._connections[hashed] = new
            return True

    def event(self, event_id: str) -> StoredEvent | None:
        return self._events.get(event_id)

    def record(self, event: StoredEvent) -> StoredEvent | None:
        with self._lock[os.getpid()]:
            earlier = self._events.get(event.event_id)
            if earlier is None:
                self._events[event.event_id] = event
            return earlier

    def mark_delivered(self, event: FinchEvent) -> None:
        with self._lock[os.getpid()]:
            stored = self._events.get(event.event_id)
            if stored is not None:
                self._events[event.event_id] = dataclasses.replace(stored, delivered=True)

    def forget_events(self, *, received_before: datetime) -> int:
        """Remove all of them; see `Storage.forget_events`."""

        def announced(row: StoredConnection) -> bool:
            return row.is_announced and row.obtained_at < received_before

        with self._lock[os.getpid()]:
            events = _remove(self._events, lambda each: each.received_at < received_before)
            return events + _remove(self._connections, announced)

    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        stored = list(self._connections.values())
        old = (each for each in stored if each.has_ended and each.obtained_at < before)
        return [each for each in old if each.history]

    def forget(self, *, settled_before: datetime) -> int:
        """Remove all of them; see `Storage.forget`."""
        with self._lock[os.getpid()]:
            return _remove(
                self._attempts, lambda each: each.forgettable(settled_before=settled_before)
            )

    def _flow_holder(self, attempt: Attempt) -> Attempt | None:
        """The attempt on another code that holds this one's flow."""
        if attempt.flow_hash is None:
            return None
        for other in list(self._attempts.values()):
            if other.flow_hash == attempt.flow_hash and other.code_hash != attempt.code_hash:
                return other
        return None

    def _keep_newest(self, connection: StoredConnection) -> None:
        hashed = connection_hash(connection.connection_id)
        joined = join(connection, self._connections.get(hashed))
        if joined is not None:
            self._connections[hashed] = joined


def _remove(records: dict[K, V], where: Callable[[V], bool]) -> int:
    gone = [key for key, each in records.items() if where(each)]
    for key in gone:
        del records[key]
    return len(gone)
