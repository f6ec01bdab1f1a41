"""
What a connection's row keeps of its past: its history, and the words that a newer token leaves.

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
from datetime import datetime, timedelta
from typing import Any, TypeVar

from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import UNREADABLE, Entity, StoredConnection, history_line

Subject = TypeVar("Subject", StoredConnection, Entity)

#: Our clock and Finch's differ by no more: deliveries signed at another time are refused.
SKEW = timedelta(seconds=300)
#: A history keeps its first entry and the newest ones.
HISTORY_LIMIT = 100

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


def join(new: StoredConnection, before: StoredConnection | None) -> StoredConnection | None:
    """
    What a storage writes where *new* is settled over *before*; None: nothing.

    The later token wins. A connection of the same attempt is already stored, and may have been
    re-sealed or updated since. Every token replaces an announcement.

    The response of Finch's token endpoint has neither a status nor the entities' names. Those of
    the same customer are kept, except words that the new token refutes, such as ``reauth``.
    """
    if before is None:
        return new
    announced = before.is_announced
    if not announced and not _is_later(new, before):
        return None
    ours = (before.client_id, before.customer_id) == (new.client_id, new.customer_id)
    if not announced and not ours:
        return continued(new, before)
    token_at = new.obtained_at
    joined, undecided = _inherit(new, before, token_at=token_at)
    known = {each.id: each for each in before.entities}
    entities = []
    for each in new.entities:
        kept, open_question = _inherit(each, known.pop(each.id, None), token_at=token_at)
        entities.append(kept)
        undecided = undecided or open_question
    added = [each for each in known.values() if is_after(each.heard_at, token_at)]
    joined = dataclasses.replace(
        joined,
        entities=(*entities, *added),
        undecided_at=token_at if undecided else before.undecided_at,
    )
    if announced:
        return note_changes(new, joined, source="webhook", at=before.obtained_at, waits=False)
    return continued(joined, before)


def continued(new: StoredConnection, before: StoredConnection) -> StoredConnection:
    """
    *new* with the history of the row *before* it, where that is of this customer alone.

    Nothing is decoded, so an altered history does not keep a token from being stored.
    """
    name = '"customer_id":'
    ours = name + json.dumps(new.customer_id)
    if before.history.count(ours) != before.history.count(name):
        return new
    return dataclasses.replace(new, history=_joined(before.history, new.history))


def noted(row: StoredConnection, *lines: str, waits: bool = False) -> StoredConnection:
    """The row with these lines, which wait for a hook if *waits*."""
    added = [line[:-2] + _WAITS + "\n" if waits else line for line in lines]
    return dataclasses.replace(row, history=_joined(row.history, "".join(added)))


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
    """The entries that wait for a hook; raises as `entries_of`."""
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


def with_word(
    subject: Subject, word: str | None, *, heard_at: datetime | None, message: str | None = None
) -> Subject:
    changes: dict[str, Any] = {"status": word, "heard_at": heard_at or subject.heard_at}
    if isinstance(subject, StoredConnection) and word != subject.status:
        # It explained the word before.
        changes["status_message"] = message
    return dataclasses.replace(subject, **changes)


def is_after(at: datetime | None, floor: datetime | None) -> bool:
    """Whether Finch's instant is later than ours, whatever the difference of the clocks."""
    return at is not None and (floor is None or at > floor + SKEW)


def takes_away(word: str | None) -> bool:
    """Whether a token that was obtained later refutes the word."""
    return word in ("reauth", "disconnected") or (word or "").startswith("error")


def _is_later(new: StoredConnection, before: StoredConnection) -> bool:
    if new.obtained_at == before.obtained_at:
        return new.attempt_id != before.attempt_id
    return new.obtained_at > before.obtained_at


def _inherit(
    subject: Subject, before: Subject | None, *, token_at: datetime
) -> tuple[Subject, bool]:
    """What a new token leaves of the words before it; whether Finch has to decide."""
    if before is None:
        return subject, False
    if isinstance(subject, Entity) and isinstance(before, Entity):
        subject = dataclasses.replace(subject, name=before.name, source_id=before.source_id)
    if subject.status is not None or before.status is None:
        return subject, False
    if not takes_away(before.status) or is_after(before.heard_at, token_at):
        message = before.status_message if isinstance(before, StoredConnection) else None
        kept = with_word(subject, before.status, heard_at=before.heard_at, message=message)
        return kept, False
    subject = dataclasses.replace(subject, heard_at=before.heard_at)
    return subject, before.heard_at is not None and before.heard_at >= token_at - SKEW


def _joined(*parts: str) -> str:
    """One history of several, which keeps its first entry and the newest ones."""
    lines = "".join(parts).splitlines(keepends=True)
    return "".join(lines[:1] + lines[1:][1 - HISTORY_LIMIT :])


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
