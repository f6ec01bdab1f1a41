"""Where the end of an attempt lasts: in the storage, or else in the spool."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Literal

from finch_middleware.attempts import Attempt
from finch_middleware.errors import SpoolUnavailable
from finch_middleware.hooks import Events
from finch_middleware.records import StoredConnection
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool

#: Pauses, in seconds, before each try to settle.
SETTLE_PAUSES = (0.0, 0.2, 0.8)
#: No try begins later than this: it may wait three seconds itself, and the spool comes after it.
SETTLE_TRIES_SECONDS = 2.0


class Keeping:
    """Writes ends of attempts: a token until it is safe somewhere, anything else once."""

    def __init__(self, *, storage: Storage, spool: Spool, events: Events) -> None:
        self._storage = storage
        self._spool = spool
        self._events = events

    def secure(
        self, settled: Attempt, stored: StoredConnection | None
    ) -> Literal["stored", "spooled", "lost"]:
        """Where the token is now. Told only afterwards: the application's hook may be slow."""
        try:
            fault = self._written(settled, stored, pauses=SETTLE_PAUSES)
        except BaseException as end:  # the worker is being ended; the token in its hand comes first
            self._spooled(settled, stored, fault=type(end).__name__)
            raise
        return self._spooled(settled, stored, fault=fault) if fault else "stored"

    def note(self, settled: Attempt) -> bool:
        """Write an end at which no token is at stake; a failure is reported, no more."""
        fault = self._written(settled, None, pauses=(0.0,))
        if fault:
            self._storage_away(settled, fault)
        return not fault

    def _spooled(
        self, settled: Attempt, stored: StoredConnection | None, *, fault: str
    ) -> Literal["spooled", "lost"]:
        """Where the token is, now that the storage has not confirmed it."""
        try:
            self._spool.put(settled, stored)
        except SpoolUnavailable:
            self._storage_away(settled, fault)
            self._events.of_attempt("finch.token.lost", logging.CRITICAL, settled)
            return "lost"
        self._storage_away(settled, fault)
        self._events.of_attempt("finch.token.spooled", logging.ERROR, settled)
        return "spooled"

    def _written(
        self, settled: Attempt, stored: StoredConnection | None, *, pauses: Sequence[float]
    ) -> str:
        """Empty once the storage has confirmed it; otherwise the name of its last fault."""
        until = time.monotonic() + SETTLE_TRIES_SECONDS
        fault = ""
        for pause in pauses:
            time.sleep(pause)
            try:
                self._storage.settle(settled, stored)
            except Exception as error:  # whatever a storage raises, a token in hand must be saved
                fault = type(error).__name__
            else:
                self._retried(settled, fault)
                return ""
            if time.monotonic() > until:
                break
        return fault

    def _retried(self, settled: Attempt, fault: str) -> None:
        if fault:
            self._events.of_attempt("finch.storage.retried", logging.WARNING, settled, reason=fault)

    def _storage_away(self, settled: Attempt, fault: str) -> None:
        self._events.of_attempt("finch.storage.unavailable", logging.ERROR, settled, reason=fault)
