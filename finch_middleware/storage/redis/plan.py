"""What `RedisStorage` writes and reads: keys, values, and changes in one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import ConfigurationError, StorageUnavailable
from finch_middleware.records import (
    UNREADABLE,
    Row,
    SealedToken,
    StoredConnection,
    connection_hash,
    customer_hash,
    row_from_json,
    row_to_json,
)
from finch_middleware.storage.events import StoredEvent, event_hash

T = TypeVar("T")

#: Indexes, each a sorted set: codes of pending attempts by the end of their lease, codes of
#: quarantined ones, codes of those that can be forgotten by their end, and connection hashes in
#: the order of the scan; then events, and connections that are only announced, by when they were
#: received, and tombstones that have a history, by their end.
PENDING, QUARANTINED, ENDED, CONNECTIONS = "pending", "quarantined", "ended", "connections"
EVENTS, ANNOUNCED, HISTORIES = "events", "announced", "histories"
INDEXES = (PENDING, QUARANTINED, ENDED, CONNECTIONS, EVENTS, ANNOUNCED, HISTORIES)

#: Carries out a `Plan`, unless a value has changed since the plan was made. Redis undoes nothing
#: of a script that fails, so each command is first run in a form that changes nothing: what it
#: lacks (a right, memory, the type of a key) cannot change before the script ends.
COMPARE_AND_WRITE = """
local plan = cjson.decode(ARGV[1])
for _, expected in ipairs(plan.expected) do
    if redis.call('GET', KEYS[expected[1]]) ~= expected[2] then
        return 0
    end
end
for place, command in ipairs(plan.rehearsal) do
    command[2] = KEYS[command[2]]
    local reply = redis.pcall(unpack(command))
    if type(reply) == 'table' and reply.err then
        return {place, reply.err}
    end
end
for _, command in ipairs(plan.commands) do
    command[2] = KEYS[command[2]]
    redis.call(unpack(command))
end
return 1
"""

#: Replaces each value that is still the old one: KEYS has the names, ARGV old and new in turn.
SWAP_EACH = """
local done = {}
for place, key in ipairs(KEYS) do
    done[place] = 0
    if redis.call('GET', key) == ARGV[2 * place - 1] then
        redis.call('SET', key, ARGV[2 * place])
        done[place] = 1
    end
end
return done
"""

# Each command with arguments that change nothing: there is no such key, and no such member.
_REHEARSALS: dict[str, tuple[str, ...]] = {
    "SET": ("", "XX"),
    "DEL": (),
    "ZADD": ("XX", "0", ""),
    "ZREM": ("",),
}
_OPTION = "accept_data_loss"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970: a score is a float, and must not be rounded."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


class Names:
    """The keys of one storage, all under its prefix and so in one hash slot."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def attempt(self, code_hash: bytes) -> str:
        return self.attempt_of(code_hash.hex())

    def attempt_of(self, code: str) -> str:
        return f"{self._prefix}attempt:{code}"

    def flow(self, flow_hash: bytes) -> str:
        return f"{self._prefix}flow:{flow_hash.hex()}"

    def connection(self, connection_id: str) -> str:
        return self.connection_of(connection_hash(connection_id).hex())

    def connection_of(self, hashed: str) -> str:
        return f"{self._prefix}connection:{hashed}"

    def customer(self, customer_id: str) -> str:
        return f"{self._prefix}customer:{customer_hash(customer_id).hex()}"

    def event(self, event_id: str) -> str:
        return self.event_of(event_hash(event_id).hex())

    def event_of(self, hashed: str) -> str:
        return f"{self._prefix}event:{hashed}"

    def index(self, name: str) -> str:
        return f"{self._prefix}{name}"


class Plan:
    """
    A change to a few keys, and the values on which it is based.

    Attributes:
        keys: Every key that it names; a cluster requires them.
        commands: The commands, each key as its place in `keys`, counted from one.
        rehearsal: For each command, and each of its keys that has a type, one of the same kind
            that changes nothing.
    """

    def __init__(self, names: Names) -> None:
        self.keys: list[str] = []
        self.commands: list[list[str | int]] = []
        self.rehearsal: list[list[str | int]] = []
        self._expected: list[tuple[int, str | bool]] = []
        self._names = names

    def as_json(self) -> str:
        """The plan as the script reads it."""
        parts = {"expected": self._expected, "rehearsal": self.rehearsal, "commands": self.commands}
        return json.dumps(parts)

    def rehearsed(self, place: int) -> tuple[str, str]:
        """The command at that place in the rehearsal, counted from one, and its key."""
        command, key, *_ = self.rehearsal[place - 1]
        return str(command), self.keys[int(key) - 1]

    def rehearse_index(self, key: str) -> Plan:
        """Rehearse everything that a change of that index needs."""
        for command in _REHEARSALS:
            self._rehearse(command, key)
        return self

    def put_trial(self, key: str, value: str, *, member: str) -> Plan:
        """Write a record and an index that only `drop_trial` removes; the record expires."""
        self._do("SET", key, value, "PX", "60000")
        self._do("ZADD", self._names.index("trial"), "0", member)
        return self

    def drop_trial(self, key: str, *, member: str) -> Plan:
        """Remove what `put_trial` wrote."""
        self._do("DEL", key)
        self._do("ZREM", self._names.index("trial"), member)
        return self

    def expect(self, key: str, value: str | None) -> None:
        """Carry out the plan only if *key* has *value*; None: if there is no such key."""
        # A missing value is `false` in Lua.
        self._expected.append((self._place(key), False if value is None else value))

    def put_attempt(self, attempt: Attempt, *, over: Attempt | None) -> None:
        """Write the attempt and its indexes, *over* the current one."""
        code = attempt.code_hash.hex()
        self._do("SET", self._names.attempt(attempt.code_hash), row_to_json(attempt.as_row()))
        if over is not None and over.flow_hash not in (None, attempt.flow_hash):
            self._do("DEL", self._names.flow(over.flow_hash))
        if attempt.flow_hash is not None:
            self._do("SET", self._names.flow(attempt.flow_hash), code)
        self._file(PENDING, code, at=attempt.leased_until if attempt.pending else None)
        ended = attempt.forgettable(settled_before=_END_OF_TIME)
        self._file(ENDED, code, at=attempt.settled_at if ended else None)
        held = attempt.state is AttemptState.QUARANTINED
        self._file(QUARANTINED, code, at=attempt.claimed_at if held else None)

    def drop_attempt(self, attempt: Attempt) -> None:
        """Remove the attempt, its flow and its place in the indexes."""
        code = attempt.code_hash.hex()
        self._do("DEL", self._names.attempt(attempt.code_hash))
        if attempt.flow_hash is not None:
            self._do("DEL", self._names.flow(attempt.flow_hash))
        self._file(PENDING, code, at=None)
        self._file(ENDED, code, at=None)

    def put_connection(
        self, connection: StoredConnection, *, over: StoredConnection | None
    ) -> None:
        """Write the connection and its indexes, *over* the current one."""
        hashed = connection_hash(connection.connection_id).hex()
        self._do("SET", self._names.connection_of(hashed), row_to_json(connection.as_row()))
        moved = over is not None and over.customer_id != connection.customer_id
        if over is not None and over.has_token and (moved or not connection.has_token):
            self._do("ZREM", self._names.customer(over.customer_id), hashed)
        if connection.has_token:
            self._do("ZADD", self._names.customer(connection.customer_id), "0", hashed)
            self._do("ZADD", self._names.index(CONNECTIONS), "0", hashed)
        else:
            self._do("ZREM", self._names.index(CONNECTIONS), hashed)
        at = connection.obtained_at if connection.is_announced else None
        self._file(ANNOUNCED, hashed, at=at)
        if connection.has_ended or (over is not None and over.has_ended):
            listed = connection.has_ended and connection.history
            self._file(HISTORIES, hashed, at=connection.obtained_at if listed else None)

    def drop_announced(self, hashed: str) -> None:
        """Remove the row of a connection that is only announced."""
        self._do("DEL", self._names.connection_of(hashed))
        self._file(ANNOUNCED, hashed, at=None)

    def put_event(self, event: StoredEvent) -> None:
        """Write the event and its index."""
        hashed = event.event_hash.hex()
        self._do("SET", self._names.event_of(hashed), row_to_json(event.as_row()))
        self._file(EVENTS, hashed, at=event.received_at)

    def drop_event(self, hashed: str) -> None:
        """Remove the event and its place in the index."""
        self._do("DEL", self._names.event_of(hashed))
        self._file(EVENTS, hashed, at=None)

    def _file(self, index: str, code: str, *, at: datetime | None) -> None:
        if at is None:
            self._do("ZREM", self._names.index(index), code)
        else:
            self._do("ZADD", self._names.index(index), str(microseconds(at)), code)

    def _do(self, command: str, key: str, *arguments: str) -> None:
        self._rehearse(command, key)
        self.commands.append([command, self._place(key), *arguments])

    def _rehearse(self, command: str, key: str) -> None:
        # SET and DEL do not depend on what their key holds.
        where = key if command in ("ZADD", "ZREM") else self._names.index("nothing")
        rehearsed: list[str | int] = [command, self._place(where), *_REHEARSALS[command]]
        if rehearsed not in self.rehearsal:
            self.rehearsal.append(rehearsed)

    def _place(self, key: str) -> int:
        if key not in self.keys:
            self.keys.append(key)
        # Lua counts from one.
        return self.keys.index(key) + 1


def attempt_in(value: str | None) -> Attempt | None:
    """The attempt in *value*; None for no value. Raises StorageUnavailable: unreadable."""
    return None if value is None else Attempt.from_row(_row(value))


def connection_in(value: str | None) -> StoredConnection | None:
    """The connection in *value*; None for no value. Raises StorageUnavailable: unreadable."""
    return None if value is None else StoredConnection.from_row(_row(value))


def event_in(value: str | None) -> StoredEvent | None:
    """The event in *value*; None for no value. Raises StorageUnavailable: unreadable."""
    return None if value is None else StoredEvent.from_row(_row(value))


def with_token(value: str | None, *, old: SealedToken, new: SealedToken) -> str | None:
    """The connection in *value* with its *old* token replaced; None if it has another one."""
    with suppress(*UNREADABLE):
        row = row_from_json(value or "{}")
        if row.get("sealed") == old.text:
            return row_to_json({**row, "sealed": new.text})
    return None


def _row(value: str) -> Row:
    with suppress(*UNREADABLE):
        return row_from_json(value)
    # Not inside the except block: the error beneath quotes the value.
    raise StorageUnavailable("unreadable")


def readable(
    values: Iterable[str | None], *, read: Callable[[str | None], T | None]
) -> Iterator[T]:
    """The records in these values, without those that cannot be read."""
    for value in values:
        with suppress(StorageUnavailable):
            record = read(value)
            if record is not None:
                yield record


def without_option(url: str) -> tuple[str, bool]:
    """The URL as redis-py reads it, and whether ``accept_data_loss`` is on in it."""
    address, _, query = url.partition("?")
    parts = [part for part in query.split("&") if part]
    ours = [part for part in parts if part.partition("=")[0] == _OPTION]
    if not ours:
        return url, False
    if set(ours) - {f"{_OPTION}=true", f"{_OPTION}=false"}:
        raise ConfigurationError([f"{_OPTION} in the storage URL must be true or false."])
    others = "&".join(part for part in parts if part not in ours)
    return f"{address}?{others}".rstrip("?"), f"{_OPTION}=true" in ours
