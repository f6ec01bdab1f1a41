"""
The storage interface: what a backend promises.

A storage sees ciphertext, hashes and the columns that a list of connections needs; it never has
to be trusted with a secret. `memory`, `sql` and `redis` implement it. To write another, inherit
from `Storage`; `finch_middleware.testing.StorageContract` tests the promises.

Every method may be called from many threads at once and, unless `in_process` is True, from many
processes. Each raises `StorageUnavailable` when it cannot confirm what it was asked to do; no
other error may escape.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from finch_middleware.attempts import Attempt
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import SealedToken, StoredConnection, StoredToken
from finch_middleware.storage.events import FinchEvent, Received, StoredEvent, apply_event
from finch_middleware.storage.history import note_changes
from finch_middleware.storage.shards import WHOLE, Shard

T = TypeVar("T")

#: A row that changes during each of these tries is being rewritten in a loop elsewhere.
_TRIES = 100
#: Rows that a task over all connections has in memory.
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Generic[T]):
    """
    One batch of a scan.

    Attributes:
        rows: Those that could be read; may be empty before the end.
        unreadable: The storage's names of rows in this batch that could not be read.
        after: What the next call gets as *after*; None: the scan is over.
    """

    rows: Sequence[T]
    unreadable: Sequence[str] = ()
    after: object | None


class Storage(ABC):
    """What a backend has to do, and what it promises."""

    #: True where the data ends with the process, and no other process sees it.
    in_process: bool = False

    @abstractmethod
    def check(self) -> None:
        """
        Return when a claim written now would be durable: reachable, writable, schema as expected.

        Called before a person is sent to Finch, so it must be cheap: what cannot change
        while the process lives (the schema, the server's settings) may be remembered.

        Raises:
            SchemaMismatch: Tables are missing or different. The message names the fix.
            StorageUnavailable: It cannot be reached or written now.
        """

    @abstractmethod
    def claim(self, attempt: Attempt) -> Attempt | None:
        """
        Record *attempt* as the only one allowed to present its code.

        None: this caller won. Otherwise the existing attempt with the same code_hash, or else
        the one with the same flow_hash (where that is not None). Of any number of racing
        callers exactly one gets None, so that a flow never has more codes than it has places
        (`finch_middleware.attempts.places`). Durable when it returns.

        Raises:
            StorageUnavailable: The claim is not known to be recorded.
        """

    def claim_and_read(self, attempt: Attempt) -> tuple[Attempt | None, Sequence[StoredConnection]]:
        """
        Read the connections of the attempt's customers, then `claim`.

        Returns the claim's result, and the connections as `for_customers` does. A backend may do
        both in one step.

        Raises:
            StorageUnavailable: As `claim`; `unwritten` where the reading failed.
        """
        try:
            existing = self.for_customers(attempt.customer_ids)
        except StorageUnavailable as fault:
            fault.unwritten = True
            raise
        return self.claim(attempt), existing

    @abstractmethod
    def attempt(self, code_hash: bytes) -> Attempt | None:
        """The attempt recorded for this code, as last committed."""

    @abstractmethod
    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        """
        Write the end of an attempt and the connection that it created, in one durable step.

        The attempt replaces the current one of its code_hash and attempt_id if that is still
        claimed, or if the new state holds a token (stored, quarantined), but a quarantined one
        never replaces a stored one. In the same state `notified` may become True. If there is
        no current one, it is inserted. If another attempt holds its flow_hash, it keeps the
        current one's, or has None. The connection replaces the stored one of its connection_id
        unless that has a later `obtained_at`; a tombstone is compared in the same way. What is
        written is `finch_middleware.storage.events.join` of both, so that no event between is
        lost. Settling twice changes nothing more.

        True: the attempt was written. False: the current one was already settled differently;
        the connection is written all the same.
        """

    @abstractmethod
    def release(self, attempt: Attempt) -> None:
        """Remove the claim if it is still this attempt's and claimed: the code is unspent."""

    @abstractmethod
    def unsettled(self, *, leased_before: datetime) -> Iterable[Attempt]:
        """
        Attempts with pending work whose lease ended before that instant.

        The claimed ones, and with `notified` False all but the quarantined.
        """

    @abstractmethod
    def quarantined(self) -> Iterable[Attempt]:
        """Attempts that hold a token whose customer could not be confirmed."""

    @abstractmethod
    def row(self, connection_id: str) -> StoredConnection | None:
        """
        The row of that connection, as last committed, also one without a token.

        Raises:
            StorageUnavailable: Also where it exists and cannot be read.
        """

    @abstractmethod
    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        """A customer's readable connections, the newest `obtained_at` first."""

    def for_customers(self, customer_ids: Iterable[str]) -> Sequence[StoredConnection]:
        """The connections of several customers, in the order of *customer_ids*."""
        return [stored for each in customer_ids for stored in self.for_customer(each)]

    @abstractmethod
    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        """
        Up to *limit* connections of *shard* in one fixed order.

        *after* is None, or what the batch before has; that connection need not exist any more.
        A scan in batches sees every connection that exists all the while exactly once, also
        while others are written. It leaves out rows without a token. A row that cannot be read (a
        later version wrote it, or it was altered) is only named.
        """

    @abstractmethod
    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        """
        Replace *old* by *new*, of one connection_id, if it is unchanged. Whether it was.

        None: insert *new* if that connection has no row. Of any number of racing callers that
        replace the same row exactly one gets True. Durable when it returns.
        """

    @abstractmethod
    def event(self, event_id: str) -> StoredEvent | None:
        """That event, as last committed; None if it was not recorded, or was forgotten."""

    @abstractmethod
    def record(self, event: StoredEvent) -> StoredEvent | None:
        """
        Record that *event* was received; None: it was not recorded before.

        Otherwise the earlier record, which stays. Of any number of racing callers exactly one
        gets None. Durable when it returns.
        """

    @abstractmethod
    def mark_delivered(self, event: FinchEvent) -> None:
        """Note in the event's record that the application's hook has returned. Durable."""

    @abstractmethod
    def forget_events(self, *, received_before: datetime) -> int:
        """
        Remove what was received before that instant: events, and announced connections.

        How many; 0: no more. One call removes some hundreds and leaves the rest.
        """

    @abstractmethod
    def forget(self, *, settled_before: datetime) -> int:
        """
        Remove attempts settled before that instant without pending work. How many; 0: no more.

        A request may wait for it, so one call removes some hundreds and leaves the rest.
        Never a claimed one, a quarantined one, or one with `notified` False.
        """

    def get(self, connection_id: str) -> StoredConnection | None:
        """That connection, of whichever customer; None without a token. Raises as `row`."""
        row = self.row(connection_id)
        return row if row is not None and row.has_token else None

    @abstractmethod
    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        """Some hundreds of the tombstones from before that instant that have a history."""

    def forget_history(self, *, ended_before: datetime) -> int:
        """
        Remove the history of connections that ended before that instant.

        Of how many; 0: no more.
        """
        old = self.ended(before=ended_before)
        return sum(self.swap(each, dataclasses.replace(each, history="")) for each in old)

    def receive(
        self, event: FinchEvent, *, delivered: bool = False, waits: bool = False
    ) -> Received:
        """
        Apply a verified event to its connection, then record it; a repeated one changes nothing.

        Durable when it returns. After an error, or the end of the process, Finch repeats the
        event and this completes it. *delivered*: no hook of the application waits for it;
        otherwise call `mark_delivered` once the hook has returned. *waits*: another hook waits for
        the change of a status, see `finch_middleware.storage.history`.

        Raises:
            StorageUnavailable: It is not known to be stored.
        """
        earlier = self.event(event.event_id)
        if earlier is not None:
            row = self._row_of(event)
            return Received(first=False, delivered=earlier.delivered, before=row, after=row)
        before, after = self._apply(event, waits=waits)
        stored = StoredEvent(
            event_id=event.event_id, received_at=event.received_at, delivered=delivered
        )
        earlier = self.record(stored)
        return Received(
            first=earlier is None,
            delivered=(earlier or stored).delivered,
            before=before,
            after=after,
        )

    def _row_of(self, event: FinchEvent) -> StoredConnection | None:
        """The row that the event may change."""
        if event.connection_id is None or event.status is None:
            return None
        return self.row(event.connection_id)

    def _apply(
        self, event: FinchEvent, *, waits: bool
    ) -> tuple[StoredConnection | None, StoredConnection | None]:
        """The row before and with the event's word."""
        for _ in range(_TRIES):
            before = self._row_of(event)
            after = apply_event(before, event)
            if before is not None and after is not None:
                at = event.received_at
                after = note_changes(before, after, source="webhook", at=at, waits=waits)
            if after is None or after == before or self.swap(before, after):
                return before, after
        raise StorageUnavailable("busy")

    def delete(self, connection: StoredConnection, *, at: datetime) -> bool:
        """
        Replace *connection*, ended at *at*, by its tombstone, if it is unchanged. Whether it was.

        Its token and its customer are removed. Its history, which names the customer, stays until
        `forget_history`. The tombstone is kept for good, because a spool may wait for any time: a
        token obtained until a second after *at* is not stored again, a later one is.
        """
        return self.swap(connection, connection.tombstone(at=at))

    def connections(
        self, shard: Shard = WHOLE, *, unreadable: set[str] | None = None
    ) -> Iterator[StoredConnection]:
        """
        Every connection of *shard* that can be read, from batches of `scan`.

        Adds the names of the other rows to *unreadable*.
        """
        after: object | None = None
        while True:
            batch = self.scan(after=after, limit=_BATCH, shard=shard)
            if unreadable is not None:
                unreadable.update(batch.unreadable)
            yield from batch.rows
            after = batch.after
            if after is None:
                return

    def scan_tokens(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredToken]:
        """
        The tokens that `scan` would see, in any fixed order.

        A backend may read fewer columns, in the order that costs least.
        """
        batch = self.scan(after=after, limit=limit, shard=shard)
        return Scan(
            rows=[StoredToken.of(each) for each in batch.rows],
            unreadable=batch.unreadable,
            after=batch.after,
        )

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        """
        Replace the ciphertext of each connection, and no more, if it is still the old one.

        For each change whether it was done: False also where the storage only did not try, for
        example because another column changed meanwhile. A backend may do all in one
        transaction: a rotation of keys then waits for the disk once.
        """
        return [self._swap_token(old, sealed) for old, sealed in changes]

    def _swap_token(self, old: StoredToken, sealed: SealedToken) -> bool:
        current = self.get(old.connection_id)
        if current is None or current.sealed != old.sealed:
            return False
        return self.swap(current, dataclasses.replace(current, sealed=sealed))

    def create_tables(self) -> bool:
        """Create the tables that are missing. False: this storage needs none."""
        return False

    def describe(self) -> Sequence[str]:
        """Texts for ``finch-middleware doctor``: the server's version, the settings that matter."""
        return ()

    def close(self) -> None:  # noqa: B027  # optional: a backend without connections keeps it
        """Close the connections that the storage opened; the next call opens new ones."""


def fault_of_storage(storage: object) -> str:
    """What an object lacks to be a storage; empty where that is nothing."""
    if isinstance(storage, Storage):
        return ""
    if isinstance(storage, type):
        return f"{storage.__name__} is a class; pass an object of it"
    needed = [name for name in vars(Storage) if name in Storage.__abstractmethods__]
    missing = [name for name in needed if not hasattr(storage, name)]
    fault = f"lacks the methods {', '.join(missing)}" if missing else "has another base class"
    return (
        f"a {type(storage).__name__} {fault}; "
        "pass a URL or an object whose class inherits from finch_middleware.Storage"
    )
