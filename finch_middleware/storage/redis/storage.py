"""
Attempts and connections in Redis or Valkey.

Every key is in one hash slot, so that one script can change an attempt, its flow and its
connection at once, in a cluster too. Each record is a string of JSON; a few indexes list them.
No key expires: `forget` removes what is no longer needed.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.precedence import (
    attempt_replaces,
    can_forget,
    connection_replaces,
    is_pending,
)
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.redis.plan import (
    COMPARE_AND_WRITE,
    CONNECTIONS,
    ENDED,
    PENDING,
    QUARANTINED,
    Names,
    Plan,
    attempt_in,
    connection_in,
    microseconds,
    readable,
    text_of,
    without_option,
)

T = TypeVar("T")

_PATIENCE_SECONDS = 3

#: Lost races after which a writer gives up; one of those that race always wins.
_TRIES = 100

#: Records read in one round trip.
_BATCH = 500

_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

# Not every error of a cluster's client is a RedisError.
_FAULTS = (exceptions.RedisError, exceptions.RedisClusterException, UnicodeError, OSError)

_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.OutOfMemoryError, "full"),
    ((exceptions.AuthenticationError, exceptions.NoPermissionError), "denied"),
    (exceptions.BusyLoadingError, "busy"),
    (UnicodeError, "unstorable"),
)


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
        # Its methods are typed for both its synchronous and its asynchronous use.
        self._client: Any = url_or_client
        if isinstance(url_or_client, str):
            url, accepted = without_option(url_or_client)
            self._client = _client(url)
            # A client of ours ends with this object; the application closes its own.
            weakref.finalize(self, self._client.close)
            accept_data_loss = accept_data_loss or accepted
        self._shared = not isinstance(url_or_client, str)
        self._script = self._client.register_script(COMPARE_AND_WRITE)
        self._names = Names(prefix)
        self._trusted = accept_data_loss

    def close(self) -> None:
        """Close the connections, unless they are those of the application's client."""
        if not self._shared:
            self._client.close()

    def check(self) -> None:
        self._require_durability()
        # Writes nothing, because there is no such key, but is refused wherever a write is.
        self._ask(lambda: self._client.set(self._names.index("nothing"), "", xx=True))

    def describe(self) -> Sequence[str]:
        """The settings that matter, where the server shows them, and our prefix."""
        settings = {name: self._ask(partial(self._setting, name)) for name in _SETTINGS}
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
            if self._write(plan):
                return None
            current = self._current(attempt)
            if current is not None:
                return current
        raise StorageUnavailable("busy")

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return attempt_in(self._get(self._names.attempt(code_hash)))

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        return self._until_written(partial(self._settle, attempt, connection=connection))

    def release(self, attempt: Attempt) -> None:
        self._until_written(partial(self._release, attempt))

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        values = self._values_of_attempts(self._due(PENDING, leased_before))
        return [each for each in readable(values, read=attempt_in) if is_pending(each)]

    def quarantined(self) -> Sequence[Attempt]:
        values = self._values_of_attempts(self._members(self._names.index(QUARANTINED)))
        held = [each for value in values if (each := attempt_in(value))]
        return [each for each in held if each.state is AttemptState.QUARANTINED]

    def get(self, connection_id: str) -> StoredConnection | None:
        stored = connection_in(self._get(self._names.connection(connection_id)))
        return None if stored is None or stored.has_ended else stored

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        keys = self._members(self._names.customer(customer_id))
        found = readable(self._values_of_connections(keys), read=connection_in)
        mine = (each for each in found if each.customer_id == customer_id)
        return sorted(mine, key=lambda each: each.obtained_at, reverse=True)

    def scan(self, *, after: str | None, limit: int) -> Scan:
        start = "-" if after is None else f"({connection_hash(after).hex()}"
        found: list[StoredConnection] = []
        unread: list[str] = []
        while len(found) < limit:
            keys = self._behind(start, limit=limit - len(found))
            if not keys:
                break
            for key, value in zip(keys, self._values_of_connections(keys), strict=True):
                try:
                    stored = connection_in(value)
                    # A row that ended after the index was read is left out.
                    found += [stored] if stored is not None and not stored.has_ended else []
                except StorageUnavailable:
                    unread.append(self._names.connection_of(key))
            # A row that was just deleted must not make this batch the last one.
            start = f"({keys[-1]}"
        return Scan(connections=found, unreadable=unread)

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        return self._until_written(partial(self._swap, old, new=new))

    def forget(self, *, settled_before: datetime) -> int:
        """Remove one batch; see `Storage.forget`."""
        due = self._due(ENDED, settled_before, limit=_BATCH)
        codes = [bytes.fromhex(code) for code in due]
        return sum(
            self._until_written(partial(self._forget, code, settled_before=settled_before))
            for code in codes
        )

    # What a writer reads and plans

    def _current(self, attempt: Attempt) -> Attempt | None:
        """The existing attempt with its code, or else with its flow."""
        current = self.attempt(attempt.code_hash)
        if current is not None or attempt.flow_hash is None:
            return current
        code = self._get(self._names.flow(attempt.flow_hash))
        return None if code is None else self.attempt(bytes.fromhex(code))

    def _settle(self, attempt: Attempt, plan: Plan, *, connection: StoredConnection | None) -> bool:
        if connection is not None:
            old = connection_in(self._read(plan, self._names.connection(connection.connection_id)))
            if old is None or connection_replaces(connection, current=old):
                plan.put_connection(connection, over=old)
        current = attempt_in(self._read(plan, self._names.attempt(attempt.code_hash)))
        if attempt.flow_hash is not None:
            holder = self._read(plan, self._names.flow(attempt.flow_hash))
            if holder not in (None, attempt.code_hash.hex()):
                flow_hash = current.flow_hash if current is not None else None
                attempt = dataclasses.replace(attempt, flow_hash=flow_hash)
        if current is not None and not attempt_replaces(attempt, current=current):
            return current == attempt
        plan.put_attempt(attempt, over=current)
        return True

    def _release(self, attempt: Attempt, plan: Plan) -> None:
        current = attempt_in(self._read(plan, self._names.attempt(attempt.code_hash)))
        if current is None or current.attempt_id != attempt.attempt_id:
            return
        if current.state is AttemptState.CLAIMED:
            plan.drop_attempt(current)

    def _forget(self, code_hash: bytes, plan: Plan, *, settled_before: datetime) -> bool:
        current = attempt_in(self._read(plan, self._names.attempt(code_hash)))
        if current is None or not can_forget(current, settled_before=settled_before):
            return False
        plan.drop_attempt(current)
        return True

    def _swap(self, old: StoredConnection, plan: Plan, *, new: StoredConnection) -> bool:
        if connection_in(self._read(plan, self._names.connection(old.connection_id))) != old:
            return False
        plan.put_connection(new, over=old)
        return True

    # The server

    def _until_written(self, decide: Callable[[Plan], T]) -> T:
        """Let *decide* read and plan, until nothing changes between its reads and the write."""
        for _ in range(_TRIES):
            plan = Plan(self._names)
            decision = decide(plan)
            if not plan.commands or self._write(plan):
                return decision
        raise StorageUnavailable("busy")

    def _write(self, plan: Plan) -> bool:
        """Whether the plan was carried out, because every value was still as expected."""
        self._require_ready()
        result = self._ask(lambda: self._script(keys=plan.keys, args=[plan.as_json()]))
        return bool(result == 1)

    def _read(self, plan: Plan, key: str) -> str | None:
        """The value of *key*, which must be the same when the plan is carried out."""
        value = self._get(key)
        plan.expect(key, value)
        return value

    def _get(self, key: str) -> str | None:
        value = self._ask(lambda: self._client.get(key))
        return None if value is None else text_of(value)

    def _values_of_attempts(self, codes: Sequence[str]) -> Iterator[str | None]:
        return self._get_each([self._names.attempt(bytes.fromhex(code)) for code in codes])

    def _values_of_connections(self, keys: Sequence[str]) -> Iterator[str | None]:
        return self._get_each([self._names.connection_of(key) for key in keys])

    def _get_each(self, keys: Sequence[str]) -> Iterator[str | None]:
        """The value of each key, read in batches; None where there is none."""
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            values: list[Any] = self._ask(partial(self._client.mget, batch))
            yield from (None if value is None else text_of(value) for value in values)

    def _members(self, key: str) -> list[str]:
        return [text_of(each) for each in self._ask(lambda: self._client.smembers(key))]

    def _due(self, index: str, before: datetime, *, limit: int = -1) -> list[str]:
        """The codes in that index with an instant before *before*; all, or the first *limit*."""
        key, end = self._names.index(index), f"({microseconds(before)}"
        found = self._ask(lambda: self._client.zrangebyscore(key, "-inf", end, start=0, num=limit))
        return [text_of(each) for each in found]

    def _behind(self, start: str, *, limit: int) -> list[str]:
        """The next connection keys in the order of the scan."""
        key = self._names.index(CONNECTIONS)
        found = self._ask(lambda: self._client.zrangebylex(key, start, "+", start=0, num=limit))
        return [text_of(each) for each in found]

    def _require_ready(self) -> None:
        try:
            return self._require_durability()
        except SchemaMismatch:
            pass
        raise StorageUnavailable("schema_mismatch")

    def _require_durability(self) -> None:
        """Once per process: whether the server keeps what it confirms."""
        if self._trusted:
            return
        for setting, wanted in _SETTINGS.items():
            if self._ask(partial(self._setting, setting)) != wanted:
                raise SchemaMismatch(
                    f"this Redis may lose a committed token: set {setting} {wanted}, "
                    f"or accept it with ?accept_data_loss=true in the URL, "
                    f"or RedisStorage(..., accept_data_loss=True)"
                )
        self._trusted = True

    def _setting(self, name: str) -> str | None:
        """The setting of the node that holds our keys: each node of a cluster has its own."""
        owner_of = getattr(self._client, "get_node_from_key", None)
        key = self._names.index(CONNECTIONS)
        where = {"target_nodes": owner_of(key)} if owner_of is not None else {}
        try:
            answer = self._client.config_get(name, **where)
        except exceptions.ResponseError:
            # A hosted Redis does not show its settings.
            return None
        return next((text_of(value) for value in answer.values()), None)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except _FAULTS as error:
            reason = _reason(error)
        # Not inside the except block: the driver's error may repeat the command.
        raise StorageUnavailable(reason)


def _client(url: str) -> redis.Redis:
    with suppress(ValueError):
        return redis.Redis.from_url(
            url,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            # Without a retry: a write may have been carried out although its reply was lost.
            retry=Retry(NoBackoff(), 0),
        )
    # The library's own message contains the URL with its password.
    raise ConfigurationError(
        ["The storage URL cannot be parsed: write redis://user:password@host:6379/0."]
    )


def _reason(error: Exception) -> str:
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "unavailable"
