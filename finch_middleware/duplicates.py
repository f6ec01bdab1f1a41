"""
A code that comes more than once: the race for its claim, and what everybody but the winner gets.

A loser waits for the winner and gets the winner's outcome, and so does every reload.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finch_middleware.attempts import Attempt, AttemptState, outcome_of
from finch_middleware.config.settings import Settings
from finch_middleware.errors import ReturnFault, StorageFault, StorageUnavailable
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.hooks.events import Events
from finch_middleware.outcomes import Failed, Finishing, Repeated
from finch_middleware.records import StoredConnection
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import REPLAY_WINDOW
from finch_middleware.web.request import Visit

if TYPE_CHECKING:
    from finch_middleware.operations.recovery import Recovery

#: How many requests of a process may wait if nothing shows how many threads its server has.
WAITING_BY_DEFAULT = 2
#: How servers number the threads of their pool. The part before the number is the pool's name.
_NUMBERED = re.compile(
    r"(finch-asgi_|waitress-|ThreadPoolExecutor-\d+_|CP Server Thread-|uWSGIWorker\d+Core)\d+"
)
WAIT_SECONDS = 15.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.25
#: How many claims that it gave up a process remembers.
REMEMBERED_LIMIT = 10_000

Answer = Repeated | Finishing | Failed

#: The attempt that is recorded, and the connections that the claimed customers had before.
Claimed = tuple[Attempt, Sequence[StoredConnection]]


class _Waiting:
    """How many requests of this process wait: each keeps a thread from all other pages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def place(self, limit: int | None) -> Iterator[bool]:
        """Whether one more may wait, until the block ends; None leaves the limit to the server."""
        limit = waiting_limit(threading.current_thread().name) if limit is None else limit
        with self._lock:
            mine = self._count < limit
            self._count += mine
        try:
            yield mine
        finally:
            with self._lock:
                self._count -= mine


def waiting_limit(thread_name: str) -> int:
    """
    How many requests may wait in the server whose thread has this name: a quarter of its threads.

    A server states nowhere how many it has, but the names of most show their pool. A pool that
    grows when needed is counted as it is now. A process that serves in its main thread has one.
    """
    if thread_name == threading.main_thread().name:
        return 0
    pool = _NUMBERED.fullmatch(thread_name)
    if pool is None:
        return WAITING_BY_DEFAULT
    return sum(each.name.startswith(pool[1]) for each in threading.enumerate()) // 4


@dataclass(kw_only=True, eq=False, repr=False)
class Duplicates:
    """
    Decides which request may present a code, and gives all others the outcome of that one.

    Remembers what no storage can hold: the claims that this process gave up, whose code is unspent,
    with the outcome of those that it released; None where a commit was never confirmed.
    """

    settings: Settings
    storage: Storage
    spool: Spool
    recovery: Recovery
    connected: ConnectedHook
    events: Events

    def __post_init__(self) -> None:
        self._waiting = PerProcess(_Waiting)
        self._given_up: dict[str, Failed | None] = {}

    def claim(self, attempt: Attempt, *, places: Sequence[bytes] = ()) -> Claimed:
        """
        Claim the code for *attempt*, at the first of these *places* that no other code has.

        Returns the recorded attempt: ours at its place, or the one that it lost to. That one has
        another code if every place was taken; nothing was written then. Also returns the
        connections that the customers of *attempt* had before.

        Raises:
            StorageFault: The claim is not confirmed; the code is unspent.
        """
        for place in places or (None,):
            if place != attempt.flow_hash:
                attempt = dataclasses.replace(attempt, flow_hash=place)
            claimed = self._claim_at(attempt)
            if claimed[0].code_hash == attempt.code_hash:
                break
        return claimed

    def release(self, attempt: Attempt, outcome: Failed) -> None:
        """Release the claim: the code is unspent. Those who wait for it get *outcome* as well."""
        # Before the release: a waiting request looks there once the claim is gone.
        self._give_up(attempt, outcome)
        try:
            self.storage.release(attempt)
        except StorageFault:
            self.events.of_attempt("finch.claim.not_released", logging.ERROR, attempt)

    def spooled(self, mine: Attempt) -> Answer | None:
        """The outcome of the code's token if that still waits in the spool; None if not."""
        entry = self.spool.entry(mine.code_hash)
        if entry is None or not entry.attempt.repeats(mine.bound_to):
            return None
        with suppress(StorageFault):
            if self.recovery.drain_entry(entry):
                return None
        outcome = outcome_of(entry.attempt, spooled=True)
        return outcome if isinstance(outcome, Finishing) else Repeated(first=outcome)

    def recorded(self, mine: Attempt, *, visit: Visit) -> Answer:
        """
        The outcome of a code that only an earlier request can have brought in good faith.

        Raises:
            ReturnFault: There was no such request.
            StorageFault: Its attempt cannot be read.
        """
        current = self.storage.attempt(mine.code_hash)
        if current is None:
            raise ReturnFault("already_used")
        return self.outcome(current, mine=mine, visit=visit)

    def outcome(self, current: Attempt, *, mine: Attempt, visit: Visit) -> Answer:
        """
        What a request gets whose claim, *mine*, lost to *current*.

        Raises:
            ReturnFault: *current* is that of another code or flow, or it ended too long ago.
            StorageFault: That attempt cannot be read any more.
        """
        if current.code_hash != mine.code_hash:
            raise ReturnFault("code_mismatch", attempt_id=current.attempt_id)
        if not current.repeats(mine.bound_to):
            raise ReturnFault("already_used", attempt_id=current.attempt_id)
        if self._in_progress(current):
            self.events.report(
                "finch.callback.joined",
                logging.INFO,
                reference=visit.reference,
                attempt_id=current.attempt_id,
            )
            latest = self._wait(current)
            if latest is None:
                # The winner released its claim: Finch did nothing, and a reload tries again.
                released = self._given_up.get(current.attempt_id)
                return Repeated(first=released) if released else visit.failed("unreachable")
            current = latest
        if current.state is AttemptState.CLAIMED and not self._in_progress(current):
            ended = self.recovery.interrupt(current)
            # Its owner may have settled it at this very moment.
            current = self.storage.attempt(mine.code_hash) or ended or current
        # Settling may have narrowed down whose code it was.
        if not current.repeats(mine.bound_to):
            raise ReturnFault("already_used", attempt_id=current.attempt_id)
        return self._repeat(current)

    def _repeat(self, current: Attempt) -> Answer:
        if current.state is AttemptState.STORED:
            settled_at = current.settled_at or current.claimed_at
            if self.settings.clock() > settled_at + REPLAY_WINDOW:
                raise ReturnFault("already_used", attempt_id=current.attempt_id)
            if self._lease_over(current):
                self.connected.run(current)
        outcome = outcome_of(current)
        return outcome if isinstance(outcome, Finishing) else Repeated(first=outcome)

    def _wait(self, current: Attempt) -> Attempt | None:
        """The attempt once it is settled or its lease is over; None if it was released."""
        latest: Attempt | None = current
        until = time.monotonic() + WAIT_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        with self._waiting[os.getpid()].place(self.settings.waiting_duplicates) as mine:
            while mine and latest and self._in_progress(latest) and time.monotonic() < until:
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
                latest = self.storage.attempt(current.code_hash)
        return latest

    def _in_progress(self, attempt: Attempt) -> bool:
        return attempt.state is AttemptState.CLAIMED and not self._lease_over(attempt)

    def _lease_over(self, attempt: Attempt) -> bool:
        return self.settings.clock() > attempt.leased_until

    def _claim_at(self, attempt: Attempt) -> Claimed:
        """*attempt* if it won, otherwise the one that it lost to."""
        recorded, existing = self._claim_once(attempt)
        if recorded.attempt_id not in self._given_up or not recorded.repeats(attempt.bound_to):
            return recorded, existing
        # No request will present its code: a late commit, or a release that failed.
        self.storage.release(recorded)
        return self._claim_once(attempt)

    def _claim_once(self, attempt: Attempt) -> Claimed:
        try:
            holder, existing = self.storage.claim_and_read(attempt)
            return holder or attempt, existing
        except StorageUnavailable as fault:
            if fault.unwritten:
                raise
            # The connection may have broken during the commit: the claim may be recorded.
            with suppress(StorageFault):
                current = self.storage.attempt(attempt.code_hash)
                if current is not None and current.attempt_id == attempt.attempt_id:
                    return attempt, self.storage.for_customers(attempt.customer_ids)
            # Not earlier: until then another request could release the claim that we use.
            self._give_up(attempt, None)
            raise

    def _give_up(self, attempt: Attempt, outcome: Failed | None) -> None:
        if len(self._given_up) >= REMEMBERED_LIMIT:
            self._given_up.clear()
        self._given_up[attempt.attempt_id] = outcome
