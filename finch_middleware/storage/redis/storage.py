"""
Attempts, connections and events in Redis or Valkey.

Every key is in one hash slot, so that one script can change an attempt, its flow and its
connection at once, in a cluster too. Each record is a string of JSON; a few indexes list them.
No key expires: `forget` removes what is no longer needed.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import redis

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import ConfigurationError, StorageUnavailable
from finch_middleware.records import SealedToken, StoredConnection, StoredToken, connection_hash
from finch_middleware.storage.events import FinchEvent, StoredEvent, event_hash
from finch_middleware.storage.history import join
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.redis.plan import (
    ANNOUNCED,
    CONNECTIONS,
    ENDED,
    EVENTS,
    HISTORIES,
    PENDING,
    QUARANTINED,
    Plan,
    R,
    customer_key,
    flow_key,
    hash_of,
    microseconds,
    readable,
    record_in,
    record_key,
)
from finch_middleware.storage.redis.server import Server, open_client
from finch_middleware.storage.shards import WHOLE, Shard

T = TypeVar("T")

#: Lost races after which a writer gives up; one of those that race always wins.
_TRIES = 100

#: Attempts removed by one call of `forget`.
_BATCH = 500


class RedisStorage(Storage):
    """
    A storage in Redis or Valkey, on one server or in a cluster.

    Pass a URL, or a client that the application has made. Nothing is opened before the
    first call. A server that may lose what it confirmed, or evicts it, is refused by
    `check`: it must run with ``appendonly yes``, ``appendfsync always`` and ``maxmemory-policy
    noeviction``. A failover to a replica can lose the last moments even so.

    Arguments:
        prefix: The beginning of every key; needs a hash tag such as ``{finch}``.
        accept_data_loss: Accept any server. It may lose tokens, which never expire at Finch, and
            claims, so that a code may be presented twice. In a URL: ``?accept_data_loss=true``.

    Raises:
        ConfigurationError: The URL cannot be parsed, or the prefix has no hash tag.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis | redis.RedisCluster,
        *,
        prefix: str = "{finch}:",
        accept_data_loss: bool = False,
    ) -> None:
        if "}" not in prefix.partition("{")[2][1:]:
            raise ConfigurationError(
                ["The prefix of a Redis storage needs a hash tag, such as {finch}:"]
            )
        client: Any = url_or_client
        self._shared = not isinstance(url_or_client, str)
        if isinstance(url_or_client, str):
            client, accepted = open_client(url_or_client)
            # A client of ours ends with this object; the application closes its own.
            weakref.finalize(self, client.close)
            accept_data_loss = accept_data_loss or accepted
        self._client = client
        self._prefix = prefix
        self._server = Server(client, prefix=prefix, trusted=accept_data_loss)

    def close(self) -> None:
        """Close the connections, unless they are those of the application's client."""
        if not self._shared:
            self._client.close()

    def check(self) -> None:
        self._server.check()

    def describe(self) -> Sequence[str]:
        """The settings that matter, where the server shows them, and our prefix."""
        settings = self._server.settings()
        return [
            *(f"{name} {value or 'unknown'}" for name, value in settings.items()),
            f"keys {self._prefix}*",
        ]

    def claim(self, attempt: Attempt) -> Attempt | None:
        for _ in range(_TRIES):
            plan = Plan()
            plan.expect(record_key(Attempt, attempt.code_hash.hex()), None)
            if attempt.flow_hash is not None:
                plan.expect(flow_key(attempt.flow_hash), None)
            plan.replace(None, attempt)
            if self._server.write(plan):
                return None
            current = self._current(attempt)
            if current is not None:
                return current
        raise StorageUnavailable("busy")

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return self._find(Attempt, code_hash.hex())

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        return self._until_written(partial(self._settle, attempt, connection=connection))

    def release(self, attempt: Attempt) -> None:
        def ours(current: Attempt) -> bool:
            claimed = current.state is AttemptState.CLAIMED
            return claimed and current.attempt_id == attempt.attempt_id

        self._until_written(partial(self._remove, Attempt, attempt.code_hash.hex(), where=ours))

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        values = self._values(Attempt, self._before(leased_before, index=PENDING))
        return [each for each in readable(Attempt, values) if each.pending]

    def quarantined(self) -> Sequence[Attempt]:
        values = self._values(Attempt, self._server.members(QUARANTINED))
        held = [each for value in values if (each := record_in(Attempt, value))]
        return [each for each in held if each.state is AttemptState.QUARANTINED]

    def row(self, connection_id: str) -> StoredConnection | None:
        return self._find(StoredConnection, connection_hash(connection_id).hex())

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        hashes = self._server.members(customer_key(customer_id))
        found = readable(StoredConnection, self._values(StoredConnection, hashes))
        mine = (each for each in found if each.customer_id == customer_id)
        return sorted(mine, key=lambda each: each.obtained_at, reverse=True)

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start = shard.before.hex() if after is None else after
        hashes = self._server.behind(start, last=shard.last.hex(), index=CONNECTIONS, limit=limit)
        found: list[StoredConnection] = []
        unread: list[str] = []
        for hashed, value in zip(hashes, self._values(StoredConnection, hashes), strict=True):
            try:
                stored = record_in(StoredConnection, value)
                # A row that ended after the index was read is left out.
                found += [stored] if stored is not None and stored.has_token else []
            except StorageUnavailable:
                unread.append(self._prefix + record_key(StoredConnection, hashed))
        return Scan(rows=found, unreadable=unread, after=hashes[-1] if hashes else None)

    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        current = self._change(
            StoredConnection, hash_of(new), lambda current: new if current == old else current
        )
        return current == old

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        """See `Storage.swap_tokens`; two round trips, unless a row changes between them."""
        plan = Plan()
        hashes = [connection_hash(old.connection_id).hex() for old, _ in changes]
        values = self._read(plan, *(record_key(StoredConnection, each) for each in hashes))
        done = []
        for (old, sealed), value in zip(changes, values, strict=True):
            row = record_in(StoredConnection, value)
            unchanged = row is not None and row.sealed == old.sealed
            if row is not None and unchanged:
                plan.replace(row, dataclasses.replace(row, sealed=sealed))
            done.append(unchanged)
        if not plan.commands or self._server.write(plan):
            return done
        return super().swap_tokens(changes)

    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        hashes = self._before(before, index=HISTORIES, limit=_BATCH)
        return list(readable(StoredConnection, self._values(StoredConnection, hashes)))

    def event(self, event_id: str) -> StoredEvent | None:
        return self._find(StoredEvent, event_hash(event_id).hex())

    def record(self, event: StoredEvent) -> StoredEvent | None:
        return self._change(StoredEvent, hash_of(event), lambda current: current or event)

    def mark_delivered(self, event: FinchEvent) -> None:
        def delivered(current: StoredEvent | None) -> StoredEvent | None:
            return current and dataclasses.replace(current, delivered=True)

        self._change(StoredEvent, event_hash(event.event_id).hex(), delivered)

    def forget_events(self, *, received_before: datetime) -> int:
        """Remove one batch; see `Storage.forget_events`."""

        def old(row: StoredConnection) -> bool:
            return row.is_announced and row.obtained_at < received_before

        events = sum(
            self._until_written(partial(self._drop_event, hashed, received_before=received_before))
            for hashed in self._before(received_before, index=EVENTS, limit=_BATCH)
        )
        return events + self._remove_each(
            StoredConnection, ANNOUNCED, before=received_before, where=old
        )

    def forget(self, *, settled_before: datetime) -> int:
        """Remove one batch; see `Storage.forget`."""
        old = partial(Attempt.forgettable, settled_before=settled_before)
        return self._remove_each(Attempt, ENDED, before=settled_before, where=old)

    # What a writer reads and plans

    def _current(self, attempt: Attempt) -> Attempt | None:
        """The existing attempt with its code, or else with its flow."""
        current = self.attempt(attempt.code_hash)
        if current is not None or attempt.flow_hash is None:
            return current
        code = self._server.get(flow_key(attempt.flow_hash))
        return None if code is None else self._find(Attempt, code)

    def _settle(self, attempt: Attempt, plan: Plan, *, connection: StoredConnection | None) -> bool:
        value, holder, row = self._read(
            plan,
            record_key(Attempt, hash_of(attempt)),
            flow_key(attempt.flow_hash) if attempt.flow_hash is not None else None,
            record_key(StoredConnection, hash_of(connection)) if connection else None,
        )
        if connection is not None:
            old = record_in(StoredConnection, row)
            joined = join(connection, old)
            if joined is not None:
                plan.replace(old, joined)
        current = record_in(Attempt, value)
        if holder not in (None, hash_of(attempt)):
            flow_hash = current.flow_hash if current is not None else None
            attempt = dataclasses.replace(attempt, flow_hash=flow_hash)
        if current is not None and not attempt.replaces(current):
            return current == attempt
        plan.replace(current, attempt)
        return True

    def _change(
        self, kind: type[R], hashed: str, decide: Callable[[R | None], R | None]
    ) -> R | None:
        """Replace a record by what *decide* returns of it; the record before."""

        def change(plan: Plan) -> R | None:
            [value] = self._read(plan, record_key(kind, hashed))
            current = record_in(kind, value)
            changed = decide(current)
            if changed is not current:
                plan.replace(current, changed)
            return current

        return self._until_written(change)

    def _remove(
        self, kind: type[R], hashed: str, plan: Plan, *, where: Callable[[R], bool]
    ) -> bool:
        """Remove the record if it fits *where*; whether it does. One that is unreadable stays."""
        for current in readable(kind, self._read(plan, record_key(kind, hashed))):
            if where(current):
                plan.replace(current, None)
        return bool(plan.commands)

    def _remove_each(
        self, kind: type[R], index: str, *, before: datetime, where: Callable[[R], bool]
    ) -> int:
        """Remove one batch of the records of that index that still fit *where*; how many."""
        return sum(
            self._until_written(partial(self._remove, kind, hashed, where=where))
            for hashed in self._before(before, index=index, limit=_BATCH)
        )

    def _drop_event(self, hashed: str, plan: Plan, *, received_before: datetime) -> bool:
        """Remove an event, also one that cannot be read."""
        [value] = self._read(plan, record_key(StoredEvent, hashed))
        if any(each.received_at >= received_before for each in readable(StoredEvent, [value])):
            return False
        plan.do("DEL", record_key(StoredEvent, hashed))
        plan.do("ZREM", EVENTS, hashed)
        return value is not None

    def _until_written(self, decide: Callable[[Plan], T]) -> T:
        """Let *decide* read and plan, until nothing changes between its reads and the write."""
        for _ in range(_TRIES):
            plan = Plan()
            decision = decide(plan)
            if not plan.commands or self._server.write(plan):
                return decision
        raise StorageUnavailable("busy")

    def _read(self, plan: Plan, *keys: str | None) -> list[str | None]:
        """The value of each key, which must be the same when the plan is carried out."""
        named = [key for key in keys if key is not None]
        values = dict(zip(named, self._server.get_each(named), strict=True))
        for key, value in values.items():
            plan.expect(key, value)
        return [values.get(key or "") for key in keys]

    def _find(self, kind: type[R], hashed: str) -> R | None:
        return record_in(kind, self._server.get(record_key(kind, hashed)))

    def _values(self, kind: type[R], hashes: Sequence[str]) -> Iterator[str | None]:
        return self._server.get_each([record_key(kind, hashed) for hashed in hashes])

    def _before(self, instant: datetime, *, index: str, limit: int = -1) -> list[str]:
        """The hashes in that index from before that instant: all, or the first *limit*."""
        return self._server.members(index, before=microseconds(instant), limit=limit)
