"""A code that another request claimed before: wait for its answer, and give the same."""

from __future__ import annotations

import logging
import threading
import time

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.binding import Binding
from finch_middleware.config.settings import Settings
from finch_middleware.exchange import Exchange
from finch_middleware.forks import PerProcess
from finch_middleware.hooks import Events
from finch_middleware.operations.recovery import Recovery
from finch_middleware.outcomes import Connected, Failed, Finishing, Invalid, Repeated
from finch_middleware.storage.protocol import Storage
from finch_middleware.tickets import REPLAY_WINDOW
from finch_middleware.visit import Visit

#: Threads of one process that may wait; a server has few, and the winner needs one of them.
WAITING_THREADS = 8
WAIT_SECONDS = 15.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.25


class Duplicates:
    """Answers the losers of a claim, and every reload."""

    def __init__(
        self,
        *,
        settings: Settings,
        storage: Storage,
        redeemer: Exchange,
        recovery: Recovery,
        events: Events,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._redeemer = redeemer
        self._recovery = recovery
        self._events = events
        self._waiting = PerProcess(lambda: threading.BoundedSemaphore(WAITING_THREADS))

    def answer(
        self, standing: Attempt, *, code_hash: bytes, binding: Binding, visit: Visit
    ) -> Repeated | Finishing | Invalid | Failed:
        """
        What a request gets whose claim lost against *standing*.

        Raises:
            StorageFault: The standing attempt cannot be read any more.
        """
        if standing.code_hash != code_hash:
            return self._refused(visit, standing, "code_mismatch")
        if not standing.repeats(binding.keys()):
            return self._refused(visit, standing, "already_used")
        if self._at_work(standing):
            self._events.report(
                "finch.callback.joined",
                logging.INFO,
                reference=visit.reference,
                attempt_id=standing.attempt_id,
            )
            latest = self._awaited(standing)
            if latest is None:
                return self._released(standing, visit)
            standing = latest
        if self._at_work(standing):
            return Finishing(
                reference=standing.reference, return_to=binding.return_to, spooled=False
            )
        if standing.state is AttemptState.CLAIMED:
            ended = self._recovery.interrupted(standing)
            # Its owner may have come back in this very moment.
            standing = self._storage.attempt(code_hash) or ended
        # Settling may have narrowed down whose it is.
        if not standing.repeats(binding.keys()):
            return self._refused(visit, standing, "already_used")
        return self._told(standing, visit)

    def _released(self, standing: Attempt, visit: Visit) -> Repeated | Failed:
        """What the winner was told, as far as this process knows: the code is unspent."""
        failed = self._redeemer.released(standing)
        return Repeated(first=failed) if failed else visit.failed("unreachable")

    def _told(self, standing: Attempt, visit: Visit) -> Repeated | Invalid:
        if standing.state is AttemptState.STORED:
            return self._connected(standing, visit)
        quarantined = standing.state is AttemptState.QUARANTINED
        first = (Invalid if quarantined else Failed)(
            reference=standing.reference,
            return_to=standing.return_to or visit.return_to,
            request_id=standing.request_id,
            reason="customer_unconfirmed" if quarantined else standing.reason or "ambiguous",
        )
        return Repeated(first=first)

    def _connected(self, standing: Attempt, visit: Visit) -> Repeated | Invalid:
        settled_at = standing.settled_at or standing.claimed_at
        if self._settings.clock() > settled_at + REPLAY_WINDOW:
            return self._refused(visit, standing, "already_used")
        if self._lease_over(standing):
            self._redeemer.notify(standing)
        return Repeated(
            first=Connected(
                reference=standing.reference,
                return_to=standing.return_to or visit.return_to,
                request_id=standing.request_id,
                connection_id=standing.connection_id or "",
                customer_id=standing.customer_id or "",
            )
        )

    def _awaited(self, standing: Attempt) -> Attempt | None:
        """The attempt once it is settled or its lease is over; None if it was released."""
        waiting = self._waiting.get()
        if not waiting.acquire(blocking=False):
            return standing
        try:
            return self._polled(standing)
        finally:
            waiting.release()

    def _polled(self, standing: Attempt) -> Attempt | None:
        until = time.monotonic() + WAIT_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        latest: Attempt | None = standing
        while latest is not None and self._at_work(latest) and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
            latest = self._storage.attempt(standing.code_hash)
        return latest

    def _at_work(self, attempt: Attempt) -> bool:
        return attempt.state is AttemptState.CLAIMED and not self._lease_over(attempt)

    def _lease_over(self, attempt: Attempt) -> bool:
        return self._settings.clock() > attempt.leased_until

    def _refused(self, visit: Visit, standing: Attempt, reason: str) -> Invalid:
        self._events.report(
            "finch.callback.rejected",
            logging.WARNING,
            reference=visit.reference,
            reason=reason,
            attempt_id=standing.attempt_id,
        )
        return visit.invalid(reason)
