"""
What happened to a connection, kept in its own row.

The row's `history` is text with one entry a line, so every write of the row is one of its
history as well, and a list of connections decodes nothing of it. An entry *waits* until the
application's hook for it has returned.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import UNREADABLE, StoredConnection, history_line, joined_history

# No text of an entry can contain it: JSON escapes quotation marks.
_WAITS = ',"waits":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """
    One entry of a connection's history. Holds no secret.

    Attributes:
        at: When it happened, in UTC.
        event: ``connected``, ``reauthenticated``, ``status`` or ``disconnected``.
        source: What reported a status or ended the connection: ``refresh``, ``webhook``,
            ``data_call``, ``disconnect`` or ``forget``; None for the other events.
        customer_id, provider_id, products, entity_ids: Of the token that was stored.
        attempt_id, reference: The flow that obtained it; the reference was on the person's page.
        key_id: The key that sealed it then; a change of keys adds no entry.
        entity_id: The entity that has the status; None: the connection as a whole.
        before, after, message: The status, and Finch's explanation.
    """

    at: datetime
    event: str
    source: str | None = None
    customer_id: str | None = None
    provider_id: str | None = None
    products: tuple[str, ...] = ()
    entity_ids: tuple[str, ...] = ()
    attempt_id: str | None = None
    reference: str | None = None
    key_id: str | None = None
    entity_id: str | None = None
    before: str | None = None
    after: str | None = None
    message: str | None = None


_FIELDS = {each.name for each in dataclasses.fields(HistoryEntry)}


def entries_of(row: StoredConnection) -> list[HistoryEntry]:
    """
    The history of a row, the oldest first.

    Raises:
        StorageUnavailable: ``unreadable``: it was altered.
    """
    return list(_named(_read(row.history.splitlines())))


def continued(new: StoredConnection, before: StoredConnection) -> StoredConnection:
    """
    *new* with the history of the row *before* it, where that is of this customer alone.

    Nothing is decoded, so an altered history does not keep a token from being stored.
    """
    name = '"customer_id":'
    ours = name + json.dumps(new.customer_id)
    if before.history.count(ours) != before.history.count(name):
        return new
    return dataclasses.replace(new, history=joined_history(before.history, new.history))


def noted(row: StoredConnection, *lines: str, waits: bool = False) -> StoredConnection:
    """The row with these lines, which wait for a hook if *waits*."""
    added = [line[:-2] + _WAITS + "\n" if waits else line for line in lines]
    return dataclasses.replace(row, history=joined_history(row.history, "".join(added)))


def note_changes(
    before: StoredConnection, after: StoredConnection, *, source: str, at: datetime, waits: bool
) -> StoredConnection:
    """*after* with a line for each status that differs from the row *before* it."""
    if not after.has_token:
        return after
    lines = [history_line(at, "status", source=source, **each) for each in changes(before, after)]
    return noted(after, *lines, waits=waits)


def changes(before: StoredConnection, after: StoredConnection) -> Iterator[dict[str, str | None]]:
    """
    The statuses that differ, of the connection and of its entities.

    The first status of an entity is one only if it is neither the connection's nor ``connected``.
    """
    if after.status not in (None, before.status):
        yield {"before": before.status, "after": after.status, "message": after.status_message}
    known = {each.id: each.status for each in before.entities}
    for each in after.entities:
        old = known.get(each.id)
        expected = (None, old) if old else (None, after.status, "connected")
        if each.status not in expected:
            yield {"entity_id": each.id, "before": old, "after": each.status}


def waits(row: StoredConnection) -> bool:
    """Whether an entry waits for a hook."""
    return _WAITS in row.history


def waiting(row: StoredConnection) -> list[HistoryEntry]:
    """
    The entries that wait for a hook.

    Raises:
        StorageUnavailable: As `entries_of`.
    """
    return _read([line for line in row.history.splitlines() if line.endswith(_WAITS)])


def none_waiting(row: StoredConnection) -> StoredConnection:
    """The row once the hooks have returned."""
    return dataclasses.replace(row, history=row.history.replace(_WAITS, "}"))


def ended_here(row: StoredConnection) -> bool:
    """Whether `Connections.disconnect` or `forget` has begun to remove it."""
    ended, connected = (row.history.rfind(f'"event":"{e}"') for e in ("disconnected", "connected"))
    # A row that Finch reports in another state is not removed, whatever its history states.
    return row.status == "disconnected" and ended > connected


def without_old(row: StoredConnection, *, before: datetime) -> StoredConnection:
    """The row without entries from before that instant; the first one stays, and what waits."""
    first, *rest = row.history.splitlines(keepends=True) or [""]
    # Every line begins with an instant in UTC, so texts compare as instants do.
    oldest = history_line(before, "")[: len("2026-01-01T00:00:00.000000")]
    kept = [line for line in rest if line >= oldest or _WAITS in line]
    return dataclasses.replace(row, history=first + "".join(kept))


def _read(lines: list[str]) -> list[HistoryEntry]:
    with suppress(*UNREADABLE):
        return [_entry(line) for line in lines]
    # Not inside an except block: the error beneath quotes the row.
    raise StorageUnavailable("unreadable")


def _entry(line: str) -> HistoryEntry:
    at, _, facts = line.partition(" ")
    values: dict[str, Any] = {k: v for k, v in json.loads(facts).items() if k in _FIELDS}
    for name in ("products", "entity_ids"):
        values[name] = tuple(values.get(name, ()))
    return HistoryEntry(at=datetime.fromisoformat(at), **values)


def _named(entries: Iterable[HistoryEntry]) -> Iterator[HistoryEntry]:
    """The entries; a token that replaced another one is ``reauthenticated``."""
    connected = False
    for entry in entries:
        if entry.event == "connected" and connected:
            yield dataclasses.replace(entry, event="reauthenticated")
            continue
        connected = entry.event == "connected" or (connected and entry.event != "disconnected")
        yield entry
