"""Records to test a storage with, and a way to start many threads at the same moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.records import Entity, SealedToken, StoredConnection
from finch_middleware.storage.events import FinchEvent
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.testing.fake_finch.webhooks import new_event_id

T = TypeVar("T")

#: The time of every sample.
NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)

#: Longer than threads take to start on a machine however busy.
_PATIENCE_SECONDS = 240


def key_of(text: str) -> bytes:
    """Thirty-two bytes, as a keyed hash of *text* would be."""
    return sha256(text.encode()).digest()


def sealed(text: str = "c2VhbGVk") -> SealedToken:
    """In place of a token's ciphertext."""
    return SealedToken(text=f"fm1.k1.{text}")


def an_attempt(code: str = "code", **changes: Any) -> Attempt:
    """A new claim on *code* by an attempt of the same name, with *changes*."""
    values: dict[str, Any] = {
        "attempt_id": f"attempt-{code}",
        "code_hash": key_of(code),
        "bound_to": (key_of("ticket"),),
        "client_id": "client",
        "customer_ids": ("acme",),
        "reference": "REF-1",
        "claimed_at": NOON,
        "leased_until": NOON + timedelta(seconds=60),
    }
    return Attempt(**values | changes)


def a_connection(connection_id: str = "connection", **changes: Any) -> StoredConnection:
    """A stored connection of the customer ``acme``, with *changes*."""
    values: dict[str, Any] = {
        "connection_id": connection_id,
        "customer_id": "acme",
        "client_id": "client",
        "provider_id": "gusto",
        "products": ("company", "directory"),
        "client_type": "sandbox",
        "connection_type": "provider",
        "status_message": None,
        "synced_at": NOON - timedelta(days=1),
        "checked_at": NOON - timedelta(hours=1),
        "entities": (Entity(id="e1", name="Zoë's 🥐", source_id="1", status="connected"),),
        "sealed": sealed(),
        "obtained_at": NOON,
        "attempt_id": f"attempt-{connection_id}",
    }
    return StoredConnection(**values | changes)


def an_event(minute: float | None = 0, **changes: Any) -> FinchEvent:
    """
    A ``connected`` event of the connection ``connection``, with *changes*.

    It happened *minute* minutes after noon, as its id says; None: with an id without a time.
    """
    occurred_at = NOON + timedelta(minutes=minute or 0)
    event_id = new_event_id(int(occurred_at.timestamp()), payload=0)
    values: dict[str, Any] = {
        "event_id": event_id if minute is not None else "msg_without_a_time",
        "connection_id": "connection",
        "status": "connected",
        "received_at": occurred_at + timedelta(seconds=1),
    }
    return FinchEvent(**values | changes)


def keep(storage: Storage, *connections: StoredConnection) -> None:
    """Store each, as the end of an attempt of its own."""
    for each in connections:
        done = an_attempt(f"of {each.connection_id}").settled(AttemptState.STORED, at=NOON)
        storage.settle(done, each)


def scanned(scan: Callable[..., Scan[T]], *, limit: int, shard: Shard = WHOLE) -> list[T]:
    """What a storage's `scan` or `scan_tokens` sees in batches."""
    seen: list[T] = []
    after: object | None = None
    while True:
        batch = scan(after=after, limit=limit, shard=shard)
        assert len(batch.rows) <= limit
        seen += batch.rows
        if batch.after is None:
            return seen
        # A scan that does not advance would never end.
        assert batch.after != after
        after = batch.after


def all_at_once(work: Callable[[T], Any], arguments: Iterable[T]) -> list[Any]:
    """The results of *work* for each argument, in threads that one barrier starts together."""
    arguments = list(arguments)
    barrier = threading.Barrier(len(arguments))

    def released(argument: T) -> Any:
        barrier.wait(_PATIENCE_SECONDS)
        return work(argument)

    interval = sys.getswitchinterval()
    # Threads that switch at every step find races that a normal schedule hides.
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(arguments)) as pool:
            return list(pool.map(released, arguments))
    finally:
        sys.setswitchinterval(interval)
