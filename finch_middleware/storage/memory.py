"""Everything in this process's memory: for tests, demonstrations and a first look."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from datetime import datetime

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.forks import PerProcess
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.precedence import forgettable, gives_way, owes, replaces
from finch_middleware.storage.protocol import Scan, Storage


class MemoryStorage(Storage):
    """
    A storage that ends with its process, and that no other process sees.

    Keeps every promise of `Storage` among the threads of one process. With two worker
    processes each would take the same code for new: never use it behind a real server.
    """

    #: Says to `StorageContract`, and to whoever asks, that no second process sees this.
    in_process = True

    def __init__(self) -> None:
        self._lock = PerProcess(threading.Lock)
        self._attempts: dict[bytes, Attempt] = {}
        self._flows: dict[bytes, bytes] = {}
        self._connections: dict[bytes, StoredConnection] = {}

    def check(self) -> None:
        """Return: memory is always there."""

    def claim(self, attempt: Attempt) -> Attempt | None:
        """None for the one caller that won, for all others the attempt that stands."""
        with self._lock.get():
            standing = self._attempts.get(attempt.code_hash) or self._flow_holder(attempt)
            if standing is None:
                self._put(attempt)
            return standing

    def attempt(self, code_hash: bytes) -> Attempt | None:
        """The attempt that stands for this code."""
        with self._lock.get():
            return self._attempts.get(code_hash)

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        """Write the end of an attempt and the connection that it brought, as `Storage` says."""
        with self._lock.get():
            if connection is not None:
                self._keep_newest(connection)
            if self._flow_holder(attempt) is not None:
                attempt = dataclasses.replace(attempt, flow_hash=None)
            standing = self._attempts.get(attempt.code_hash)
            if standing is not None and not gives_way(standing, to=attempt):
                return standing == attempt
            self._put(attempt)
            return True

    def release(self, attempt: Attempt) -> None:
        """Remove the claim, if it is still this attempt's and still claimed."""
        with self._lock.get():
            standing = self._attempts.get(attempt.code_hash)
            if standing is None or standing.attempt_id != attempt.attempt_id:
                return
            if standing.state is AttemptState.CLAIMED:
                self._drop(attempt.code_hash)

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        """Attempts that owe something and whose lease ended before that instant."""
        with self._lock.get():
            standing = list(self._attempts.values())
        return [each for each in standing if owes(each) and each.leased_until < leased_before]

    def quarantined(self) -> Sequence[Attempt]:
        """Attempts that hold a token which nobody could be given."""
        with self._lock.get():
            standing = list(self._attempts.values())
        return [each for each in standing if each.state is AttemptState.QUARANTINED]

    def get(self, connection_id: str) -> StoredConnection | None:
        """That connection, whoever it belongs to."""
        with self._lock.get():
            return self._connections.get(connection_hash(connection_id))

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        """A customer's connections, the newest `obtained_at` first."""
        with self._lock.get():
            stored = list(self._connections.values())
        mine = [each for each in stored if each.customer_id == customer_id]
        return sorted(mine, key=lambda each: each.obtained_at, reverse=True)

    def delete(self, connection_id: str) -> bool:
        """Remove a connection. Whether there was one."""
        with self._lock.get():
            return self._connections.pop(connection_hash(connection_id), None) is not None

    def scan(self, *, after: str | None, limit: int) -> Scan:
        """Up to *limit* connections behind connection id *after*, in the order of their keys."""
        start = b"" if after is None else connection_hash(after)
        with self._lock.get():
            keys = sorted(key for key in self._connections if key > start)
            return Scan(connections=[self._connections[key] for key in keys[:limit]])

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        """Replace *old* by *new* if it still stands exactly so. Whether it did."""
        key = connection_hash(old.connection_id)
        with self._lock.get():
            if self._connections.get(key) != old:
                return False
            self._connections[key] = new
            return True

    def forget(self, *, settled_before: datetime) -> int:
        """Remove attempts settled before that instant that owe nothing. How many went."""
        with self._lock.get():
            standing = self._attempts.items()
            gone = [key for key, one in standing if forgettable(one, settled_before=settled_before)]
            for key in gone:
                self._drop(key)
        return len(gone)

    def _flow_holder(self, attempt: Attempt) -> Attempt | None:
        """The attempt on another code that holds this one's flow."""
        code_hash = self._flows.get(attempt.flow_hash) if attempt.flow_hash is not None else None
        if code_hash is None or code_hash == attempt.code_hash:
            return None
        return self._attempts[code_hash]

    def _put(self, attempt: Attempt) -> None:
        if attempt.code_hash in self._attempts:
            self._drop(attempt.code_hash)
        self._attempts[attempt.code_hash] = attempt
        if attempt.flow_hash is not None:
            self._flows[attempt.flow_hash] = attempt.code_hash

    def _drop(self, code_hash: bytes) -> None:
        flow_hash = self._attempts.pop(code_hash).flow_hash
        if flow_hash is not None:
            del self._flows[flow_hash]

    def _keep_newest(self, connection: StoredConnection) -> None:
        key = connection_hash(connection.connection_id)
        old = self._connections.get(key)
        if old is None or replaces(connection, old=old):
            self._connections[key] = connection
