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
from finch_middleware.storage.events import FinchEvent, StoredEvent
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
    Names,
    Plan,
    attempt_in,
    connection_in,
    event_in,
    microseconds,
    readable,
    with_token,
    without_option,
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
            url, accepted = without_option(url_or_client)
            client = open_client(url)
            # A client of ours ends with this object; the application closes its own.
            weakref.finalize(self, client.close)
            accept_data_loss = accept_data_loss or accepted
        self._client = client
        self._names = Names(prefix)
        self._server = Server(client, names=self._names, trusted=accept_data_loss)

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
            f"keys {self._names.index('*')}",
        ]

    def claim(self, attempt: Attempt) -> Attempt | None:
        for _ in range(_TRIES):
            plan = Plan(self._names)
            plan.expect(self._names.attempt(attempt.code_hash), None)
            if attempt.flow_hash is not None:
                plan.expect(self._names.flow(attempt.flow_hash), None)
            plan.put_attempt(attempt, over=None)
            if self._server.write(plan):
                return None
            current = self._current(attempt)
            if current is not None:
                return current
        raise StorageUnavailable("busy")

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return attempt_in(self._server.get(self._names.attempt(code_hash)))

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        return self._until_written(partial(self._settle, attempt, connection=connection))

    def release(self, attempt: Attempt) -> None:
        self._until_written(partial(self._release, attempt))

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        values = self._attempts(self._server.before(microseconds(leased_before), index=PENDING))
        return [each for each in readable(values, read=attempt_in) if each.pending]

    def quarantined(self) -> Sequence[Attempt]:
        values = self._attempts(self._server.members(self._names.index(QUARANTINED)))
        held = [each for value in values if (each := attempt_in(value))]
        return [each for each in held if each.state is AttemptState.QUARANTINED]

    def row(self, connection_id: str) -> StoredConnection | None:
        return connection_in(self._server.get(self._names.connection(connection_id)))

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        hashes = self._server.members(self._names.customer(customer_id))
        found = readable(self._connections(hashes), read=connection_in)
        mine = (each for each in found if each.customer_id == customer_id)
        return sorted(mine, key=lambda each: each.obtained_at, reverse=True)

    def scan(self, *, after: str | None, limit: int) -> Scan:
        return self.scan_shard(WHOLE, after=after, limit=limit)

    def scan_shard(self, shard: Shard, *, after: str | None, limit: int) -> Scan:
        """See `Storage.scan_shard`; reads no other shard's rows."""
        start = f"({(shard.before if after is None else connection_hash(after)).hex()}"
        end = f"[{shard.last.hex()}"
        found: list[StoredConnection] = []
        unread: list[str] = []
        while len(found) < limit:
            wanted = limit - len(found)
            hashes = self._server.behind(start, end=end, index=CONNECTIONS, limit=wanted)
            if not hashes:
                break
            for hashed, value in zip(hashes, self._connections(hashes), strict=True):
                try:
                    stored = connection_in(value)
                    # A row that ended after the index was read is left out.
                    found += [stored] if stored is not None and stored.has_token else []
                except StorageUnavailable:
                    unread.append(self._names.connection_of(hashed))
            # A row that was just deleted must not make this batch the last one.
            start = f"({hashes[-1]}"
        return Scan(connections=found, unreadable=unread)

    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        return self._until_written(partial(self._swap, old, new=new))

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        """See `Storage.swap_tokens`; two round trips."""
        keys = [self._names.connection(old.connection_id) for old, _ in changes]
        values = list(self._server.get_each(keys))
        renewed = [
            with_token(value, old=old.sealed, new=new)
            for value, (old, new) in zip(values, changes, strict=True)
        ]
        swaps = [
            (key, value, new)
            for key, value, new in zip(keys, values, renewed, strict=True)
            if value is not None and new is not None
        ]
        done = iter(self._server.swap_each(swaps))
        return [new is not None and next(done) for new in renewed]

    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        hashes = self._server.before(microseconds(before), index=HISTORIES, limit=_BATCH)
        return list(readable(self._connections(hashes), read=connection_in))

    def event(self, event_id: str) -> StoredEvent | None:
        return event_in(self._server.get(self._names.event(event_id)))

    def record(self, event: StoredEvent) -> StoredEvent | None:
        return self._until_written(partial(self._record, event))

    def mark_delivered(self, event: FinchEvent) -> None:
        self._until_written(partial(self._mark_delivered, event))

    def forget_events(self, *, received_before: datetime) -> int:
        """Remove one batch; see `Storage.forget_events`."""
        before = microseconds(received_before)
        return sum(
            self._until_written(partial(drop, hashed, received_before=received_before))
            for index, drop in ((EVENTS, self._drop_event), (ANNOUNCED, self._drop_announced))
            for hashed in self._server.before(before, index=index, limit=_BATCH)
        )

    def forget(self, *, settled_before: datetime) -> int:
        """Remove one batch; see `Storage.forget`."""
        due = self._server.before(microseconds(settled_before), index=ENDED, limit=_BATCH)
        return sum(
            self._until_written(partial(self._forget, code, settled_before=settled_before))
            for code in due
        )

    # What a writer reads and plans

    def _current(self, attempt: Attempt) -> Attempt | None:
        """The existing attempt with its code, or else with its flow."""
        current = self.attempt(attempt.code_hash)
        if current is not None or attempt.flow_hash is None:
            return current
        code = self._server.get(self._names.flow(attempt.flow_hash))
        if code is None:
            return None
        return attempt_in(self._server.get(self._names.attempt_of(code)))

    def _settle(self, attempt: Attempt, plan: Plan, *, connection: StoredConnection | None) -> bool:
        value, holder, row = self._read(
            plan,
            self._names.attempt(attempt.code_hash),
            self._names.flow(attempt.flow_hash) if attempt.flow_hash is not None else None,
            self._names.connection(connection.connection_id) if connection is not None else None,
        )
        if connection is not None:
            old = connection_in(row)
            joined = join(connection, old)
            if joined is not None:
                plan.put_connection(joined, over=old)
        current = attempt_in(value)
        if holder not in (None, attempt.code_hash.hex()):
            flow_hash = current.flow_hash if current is not None else None
            attempt = dataclasses.replace(attempt, flow_hash=flow_hash)
        if current is not None and not attempt.replaces(current):
            return current == attempt
        plan.put_attempt(attempt, over=current)
        return True

    def _release(self, attempt: Attempt, plan: Plan) -> None:
        current = attempt_in(*self._read(plan, self._names.attempt(attempt.code_hash)))
        if current is None or current.attempt_id != attempt.attempt_id:
            return
        if current.state is AttemptState.CLAIMED:
            plan.drop_attempt(current)

    def _forget(self, code: str, plan: Plan, *, settled_before: datetime) -> bool:
        current = attempt_in(*self._read(plan, self._names.attempt_of(code)))
        if current is None or not current.forgettable(settled_before=settled_before):
            return False
        plan.drop_attempt(current)
        return True

    def _swap(self, old: StoredConnection | None, plan: Plan, *, new: StoredConnection) -> bool:
        if connection_in(*self._read(plan, self._names.connection(new.connection_id))) != old:
            return False
        plan.put_connection(new, over=old)
        return True

    def _record(self, event: StoredEvent, plan: Plan) -> StoredEvent | None:
        earlier = event_in(*self._read(plan, self._names.event(event.event_id)))
        if earlier is None:
            plan.put_event(event)
        return earlier

    def _mark_delivered(self, event: FinchEvent, plan: Plan) -> None:
        stored = event_in(*self._read(plan, self._names.event(event.event_id)))
        if stored is not None:
            plan.put_event(dataclasses.replace(stored, delivered=True))

    def _drop_event(self, hashed: str, plan: Plan, *, received_before: datetime) -> bool:
        [value] = self._read(plan, self._names.event_of(hashed))
        if any(each.received_at >= received_before for each in readable([value], read=event_in)):
            return False
        plan.drop_event(hashed)
        return value is not None

    def _drop_announced(self, hashed: str, plan: Plan, *, received_before: datetime) -> bool:
        [value] = self._read(plan, self._names.connection_of(hashed))
        for each in readable([value], read=connection_in):
            if each.is_announced and each.obtained_at < received_before:
                plan.drop_announced(hashed)
        return bool(plan.commands)

    def _until_written(self, decide: Callable[[Plan], T]) -> T:
        """Let *decide* read and plan, until nothing changes between its reads and the write."""
        for _ in range(_TRIES):
            plan = Plan(self._names)
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

    def _attempts(self, codes: Sequence[str]) -> Iterator[str | None]:
        return self._server.get_each([self._names.attempt_of(code) for code in codes])

    def _connections(self, hashes: Sequence[str]) -> Iterator[str | None]:
        return self._server.get_each([self._names.connection_of(hashed) for hashed in hashes])
