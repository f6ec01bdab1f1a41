"""
`on_status` and `on_disconnected`, called at least once for each change that is stored.

A change is written into the row's history together with the status, and waits there until the
application's function has returned. A process that ends in between, or a function that raises,
leaves it waiting for the next refresh, webhook or disconnect of that connection.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from finch_middleware.errors import StorageUnavailable
from finch_middleware.hooks.events import Events
from finch_middleware.records import StoredConnection, history_line
from finch_middleware.storage import history
from finch_middleware.storage.history import HistoryEntry
from finch_middleware.storage.protocol import Storage

# A row that changes during each of these tries is being rewritten in a loop elsewhere.
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """
    Finch reported another status of a connection, or of one of its entities.

    Attributes:
        entity_id: The entity; None: the connection as a whole.
        before: None if no status was known.
        after: Finch's word, such as ``connected``, ``reauth`` or ``disconnected``.
        message: Finch's explanation, in English; None without one.
        source: Where it was reported: ``refresh``, ``webhook``, ``data_call`` or ``disconnect``.
        at: When it was stored, in UTC.
    """

    connection_id: str
    customer_id: str
    entity_id: str | None
    before: str | None
    after: str
    message: str | None
    source: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedConnection:
    """
    A connection has ended: its token is of no more use.

    Attributes:
        source: ``disconnect`` or ``forget``: the application ended or removed it. Otherwise
            where Finch reported the status ``disconnected``, as in `StatusChange`.
        at: When it was stored, in UTC.
    """

    connection_id: str
    customer_id: str
    provider_id: str
    source: str
    at: datetime


@dataclass(kw_only=True, eq=False, repr=False)
class StatusHooks:
    """
    Writes changes of a connection's status, with their history, and calls the hooks.

    Each method but `run` raises StorageUnavailable where the storage does not confirm.
    """

    on_status: Callable[[StatusChange], object] | None
    on_disconnected: Callable[[EndedConnection], object] | None
    storage: Storage
    events: Events
    clock: Callable[[], datetime]
    history_retention: timedelta

    @property
    def awaited(self) -> bool:
        """Whether the application has a function that a change has to wait for."""
        return self.on_status is not None or self.on_disconnected is not None

    def history(self, row: StoredConnection) -> list[HistoryEntry]:
        """What happened to the row's connection, without what is older than the retention."""
        since = self.clock() - self.history_retention
        entries = history.entries_of(history.without_old(row, before=since))
        return [] if row.has_ended and entries[-1:] and entries[-1].at < since else entries

    def swap(
        self, before: StoredConnection, after: StoredConnection, *, source: str
    ) -> StoredConnection | None:
        """Store *after* in place of *before*, then call the hooks. None: the row had changed."""
        now = self.clock()
        kept = history.without_old(after, before=now - self.history_retention)
        noted = history.note_changes(before, kept, source=source, at=now, waits=self.awaited)
        return self.changed(before, noted) if self.storage.swap(before, noted) else None

    def update(
        self,
        latest: Callable[[], StoredConnection | None],
        change: Callable[[StoredConnection], StoredConnection],
        *,
        source: str,
    ) -> StoredConnection | None:
        """`swap` the *latest* row with what *change* makes of it; None where there is no row."""
        for _ in range(_TRIES):
            row = latest()
            if row is None:
                return None
            stored = self.swap(row, change(row), source=source)
            if stored is not None:
                return stored
        raise StorageUnavailable("busy")

    def changed(self, before: StoredConnection, after: StoredConnection) -> StoredConnection:
        """
        Report what is different in *after*, which is stored, and call the hooks that wait.

        Returns the row as it is stored then. Safe to repeat.
        """
        for change in history.changes(before, after):
            self._report("finch.connection.status", after, reason=change["after"])
        return self.run(after)

    def end(self, row: StoredConnection, *, source: str) -> bool:
        """
        Replace the row, ended for *source*, by its tombstone. False: it has a newer token.

        Where a hook raises, the row stays with the status ``disconnected`` until a later call.
        """
        current: StoredConnection | None = row
        for _ in range(_TRIES):
            if current is None:
                return True
            if current.attempt_id != row.attempt_id:
                return False
            ended = current if history.ended_here(current) else self._note_end(current, source)
            if ended is not None:
                ended = self.run(ended)
                if history.waits(ended) or self.storage.delete(ended, at=self.clock()):
                    return True
            # Its status was refreshed, or its token sealed under another key.
            current = self.storage.get(row.connection_id)
        raise StorageUnavailable("busy")

    def complete(self, row: StoredConnection) -> bool:
        """
        Complete what a hook that raised, or a process that ended, left of a change.

        False: the application had ended the connection, and only its removal was missing.
        """
        if history.ended_here(row):
            self.end(row, source="disconnect")
            return False
        self.run(row)
        return True

    def run(self, row: StoredConnection) -> StoredConnection:
        """Call the hooks that the row's history waits for; returns the row as it is stored."""
        if not history.waits(row):
            return row
        done = history.none_waiting(row)
        try:
            called = all(self._called(row, entry) for entry in history.waiting(row))
            return done if called and self.storage.swap(row, done) else row
        except StorageUnavailable as fault:  # the hooks have run, and will once more
            self._report("finch.storage.unavailable", row, logging.ERROR, reason=fault.reason)
            return row

    def _note_end(self, row: StoredConnection, source: str) -> StoredConnection | None:
        """The row as ended, stored; None: the row had changed."""
        line = history_line(self.clock(), "disconnected", source=source)
        ended = history.noted(
            dataclasses.replace(row, status="disconnected", status_message=None),
            line,
            waits=self.awaited,
        )
        if not self.storage.swap(row, ended):
            return None
        self._report("finch.connection.ended", row, reason=source)
        return ended

    def _called(self, row: StoredConnection, entry: HistoryEntry) -> bool:
        """Whether the application's functions for *entry* have returned."""
        ids = {"connection_id": row.connection_id, "customer_id": row.customer_id}
        source, after = entry.source or "", entry.after or "disconnected"
        hook = "on_status"
        try:
            if self.on_status is not None and entry.event == "status":
                self.on_status(
                    StatusChange(
                        **ids,
                        entity_id=entry.entity_id,
                        before=entry.before,
                        after=after,
                        message=entry.message,
                        source=source,
                        at=entry.at,
                    )
                )
            hook = "on_disconnected"
            whole = entry.entity_id is None and after == "disconnected"
            if self.on_disconnected is not None and whole:
                self.on_disconnected(
                    EndedConnection(**ids, provider_id=row.provider_id, source=source, at=entry.at)
                )
        except Exception:  # the application's own code; the status is stored all the same
            self._report("finch.hook.failed", row, logging.ERROR, reason=hook)
            return False
        return True

    def _report(
        self, name: str, row: StoredConnection, level: int = logging.INFO, *, reason: str | None
    ) -> None:
        self.events.report(
            name,
            level,
            reason=reason,
            connection_id=row.connection_id,
            customer_ids=(row.customer_id,),
        )
