"""What `RedisStorage` writes and reads: keys, values, and changes in one step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import (
    UNREADABLE,
    StoredConnection,
    connection_hash,
    customer_hash,
    row_from_json,
    row_to_json,
)
from finch_middleware.storage.events import StoredEvent, event_hash

Record = Attempt | StoredConnection | StoredEvent
R = TypeVar("R", Attempt, StoredConnection, StoredEvent)

#: Indexes, each a sorted set: codes of pending attempts by the end of their lease, codes of
#: quarantined ones, codes of those that can be forgotten by their end, and connection hashes in
#: the order of the scan; then events, and connections that are only announced, by when they were
#: received, and tombstones that have a history, by their end.
PENDING, QUARANTINED, ENDED, CONNECTIONS = "pending", "quarantined", "ended", "connections"
EVENTS, ANNOUNCED, HISTORIES = "events", "announced", "histories"
INDEXES = (PENDING, QUARANTINED, ENDED, CONNECTIONS, EVENTS, ANNOUNCED, HISTORIES)

#: A key that does not exist.
NOTHING = "nothing"

#: Carries out a `Plan`, unless a value has changed since the plan was made. Redis undoes nothing
#: of a script that fails, so each command is first run in a form that changes nothing, since there
#: is no such key (the first one), and no such member. What the command lacks (a right, memory, the
#: type of a key) cannot change before the script ends.
COMPARE_AND_WRITE = """
local plan = cjson.decode(ARGV[1])
for key, value in pairs(plan.expected) do
    if redis.call('GET', key) ~= value then
        return 0
    end
end
local harmless = {SET = {'', 'XX'}, DEL = {}, ZADD = {'XX', '0', ''}, ZREM = {''}}
for place, command in ipairs(plan.commands) do
    local name, key = command[1], command[2]
    -- SET and DEL do not depend on what their key holds.
    if name == 'SET' or name == 'DEL' then
        key = KEYS[1]
    end
    local reply = redis.pcall(name, key, unpack(harmless[name]))
    if type(reply) == 'table' and reply.err then
        return {place, reply.err}
    end
end
for _, command in ipairs(plan.commands) do
    redis.call(unpack(command))
end
return 1
"""

_KINDS: dict[type[Record], str] = {
    Attempt: "attempt",
    StoredConnection: "connection",
    StoredEvent: "event",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970: a score is a float, and must not be rounded."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


class Plan:
    """
    A change to a few keys, without their prefix, and the values on which it is based.

    Attributes:
        commands: Each as its name, its key and its other arguments.
    """

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self._expected: dict[str, str | bool] = {}

    def arguments(self, prefix: str) -> dict[str, list[str]]:
        """What the script gets, with all keys under the prefix; a cluster needs their names."""
        named = (NOTHING, *self._expected, *(key for _, key, *_ in self.commands))
        expected = {prefix + key: value for key, value in self._expected.items()}
        commands = [(name, prefix + key, *others) for name, key, *others in self.commands]
        return {
            "keys": [prefix + key for key in dict.fromkeys(named)],
            "args": [json.dumps({"expected": expected, "commands": commands})],
        }

    def expect(self, key: str, value: str | None) -> None:
        """Carry out the plan only if *key* has *value*; None: if there is no such key."""
        # A missing value is `false` in Lua.
        self._expected[key] = False if value is None else value

    def do(self, command: str, key: str, *arguments: str) -> Plan:
        """Run ``SET``, ``DEL``, ``ZADD`` or ``ZREM``."""
        self.commands.append((command, key, *arguments))
        return self

    def replace(self, old: Record | None, new: Record | None) -> None:
        """Replace the *old* record, and what leads to it, by the *new* one; None: there is none."""
        values, places = _values(new), _places(new)
        before = _places(old)
        for key in _values(old):
            if key not in values:
                self.do("DEL", key)
        for key, value in values.items():
            self.do("SET", key, value)
        for index, hashed in before:
            if (index, hashed) not in places:
                self.do("ZREM", index, hashed)
        for (index, hashed), score in places.items():
            if before.get((index, hashed)) != score:
                self.do("ZADD", index, str(score), hashed)


def _values(record: Record | None) -> dict[str, str]:
    """The record, and its hash at its flow's key."""
    if record is None:
        return {}
    hashed = hash_of(record)
    values = {record_key(type(record), hashed): row_to_json(record.as_row())}
    if isinstance(record, Attempt) and record.flow_hash is not None:
        values[flow_key(record.flow_hash)] = hashed
    return values


def _places(record: Record | None) -> dict[tuple[str, str], int]:
    """The record's score in each index that has it, by the index and the record's hash."""
    instants: dict[str, datetime | None]
    match record:
        case None:
            return {}
        case Attempt():
            ended = record.forgettable(settled_before=_END_OF_TIME)
            held = record.state is AttemptState.QUARANTINED
            instants = {
                PENDING: record.leased_until if record.pending else None,
                ENDED: record.settled_at if ended else None,
                QUARANTINED: record.claimed_at if held else None,
            }
        case StoredConnection():
            at = record.obtained_at
            listed = _EPOCH if record.has_token else None
            instants = {
                customer_key(record.customer_id): listed,
                CONNECTIONS: listed,
                ANNOUNCED: at if record.is_announced else None,
                HISTORIES: at if record.has_ended and record.history else None,
            }
        case _:
            instants = {EVENTS: record.received_at}
    hashed = hash_of(record)
    found = ((index, at) for index, at in instants.items() if at is not None)
    return {(index, hashed): microseconds(at) for index, at in found}


def hash_of(record: Record) -> str:
    """The hash under which a record is stored."""
    match record:
        case Attempt():
            return record.code_hash.hex()
        case StoredConnection():
            return connection_hash(record.connection_id).hex()
    return event_hash(record.event_id).hex()


def record_key(kind: type[Record], hashed: str) -> str:
    return f"{_KINDS[kind]}:{hashed}"


def flow_key(flow_hash: bytes) -> str:
    return f"flow:{flow_hash.hex()}"


def customer_key(customer_id: str) -> str:
    return f"customer:{customer_hash(customer_id).hex()}"


def record_in(kind: type[R], value: str | None) -> R | None:
    """The record in *value*; None for no value. Raises StorageUnavailable: unreadable."""
    if value is None:
        return None
    with suppress(*UNREADABLE):
        return kind.from_row(row_from_json(value))
    # Not inside the except block: the error beneath quotes the value.
    raise StorageUnavailable("unreadable")


def readable(kind: type[R], values: Iterable[str | None]) -> Iterator[R]:
    """The records in these values, without those that cannot be read."""
    for value in values:
        with suppress(StorageUnavailable):
            record = record_in(kind, value)
            if record is not None:
                yield record
