"""
Recovers or reports everything that a fault left behind.

`begin` recovers one spooled token in passing, and the reload of a spooled callback its own. An
operator or a timer recovers all of them, every interrupted attempt, every pending `on_connected`
and every quarantined token that Finch can explain. Nothing here presents a code or disconnects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from finch_middleware.attempts import LEASE, Attempt, AttemptState
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import StorageFault
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import completed_grant
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.hooks.events import Events
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Entry, Spool

#: Settled attempts are kept this long, far beyond a code's ten minutes, and then removed.
RETENTION = timedelta(days=7)
#: Finch repeats an event for less than three hours.
EVENT_RETENTION = timedelta(days=1)
_FORGET_EVERY_SECONDS = 3600
_INTROSPECT_DEADLINE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """
    What a sweep found.

    Attributes:
        drained: Attempts whose token was recovered from the spool.
        interrupted: Attempts that a crash left behind; each is reported by one sweep only, unless
            `on_problem` raises.
        notified: Stored connections whose pending `on_connected` has now run.
        forgotten: How many settled attempts, events, and histories of ended connections were
            removed after their retention.
    """

    drained: tuple[Attempt, ...]
    interrupted: tuple[Attempt, ...]
    notified: tuple[Attempt, ...]
    forgotten: int


@dataclass(kw_only=True, eq=False, repr=False)
class Recovery:
    """
    Drains the spool, ends what was interrupted, completes what was quarantined.

    Each method raises StorageFault where the storage is unavailable; a later call continues.
    """

    settings: Settings
    client: FinchClient
    vault: Vault
    storage: Storage
    spool: Spool
    connected: ConnectedHook
    events: Events
    _forget_at: float = 0.0

    def prove_ready(self) -> None:
        """Return when a token obtained now could be sealed and kept; recover a spooled one."""
        self.vault.prove()
        self.storage.check()
        self.spool.prove()
        with contextlib.suppress(StorageFault):
            self.drain(limit=1)
            self.forget_in_passing()

    def forget_in_passing(self) -> None:
        """Remove some hundreds of old rows: once an hour, and again while more are left."""
        if time.monotonic() < self._forget_at:
            return
        # Set first: where the storage is unavailable, the next request does not try again.
        self._forget_at = time.monotonic() + _FORGET_EVERY_SECONDS
        if self._forget() > 0:
            self._forget_at = 0.0

    def drain(self, *, limit: int | None = None) -> tuple[Attempt, ...]:
        """The spooled attempts, at most *limit*, that the storage now holds."""
        client_id = self.settings.client_id
        drained = []
        for entry in self.spool.drain(self.storage, client_id=client_id, limit=limit):
            self._report_drained(entry)
            drained.append(entry.attempt)
        return tuple(drained)

    def drain_entry(self, entry: Entry) -> bool:
        """Whether the storage holds this spooled attempt now."""
        if not self.spool.settle(entry, self.storage):
            return False
        if self.spool.remove(entry):
            self._report_drained(entry)
        return True

    def sweep(self) -> Swept:
        """Everything that can be settled without calling Finch."""
        drained = self.drain()
        now = self.settings.clock()
        pending = [
            attempt
            for attempt in self.storage.unsettled(leased_before=now)
            if attempt.client_id == self.settings.client_id
        ]
        stored = [each for each in pending if each.state is AttemptState.STORED]
        # What is neither stored nor claimed was ended by a process that stopped before its report.
        ended = [
            self.interrupt(each) if each.state is AttemptState.CLAIMED else self._report_end(each)
            for each in pending
            if each.state is not AttemptState.STORED
        ]
        return Swept(
            drained=drained,
            interrupted=tuple(each for each in ended if each and each.reason == "interrupted"),
            notified=tuple(each for each in stored if self.connected.run(each)),
            forgotten=sum(iter(self._forget, 0)),
        )

    def interrupt(self, claimed: Attempt) -> Attempt | None:
        """The end, reported, of an attempt whose lease is over; None: it was ended already."""
        now = self.settings.clock()
        # The report is ours for one lease, after that any sweep's.
        ended = claimed.settled(
            AttemptState.AMBIGUOUS,
            at=now,
            reason="interrupted",
            notified=False,
            leased_until=now + LEASE,
        )
        return self._report_end(ended) if self.storage.settle(ended) else None

    def quarantined(self) -> list[Attempt]:
        """The attempts that hold a token which no customer was given, the oldest first."""
        found = self.storage.quarantined()
        ours = (each for each in found if each.client_id == self.settings.client_id)
        return sorted(ours, key=lambda each: each.claimed_at)

    def complete(self, attempt: Attempt) -> bool:
        """
        Ask Finch for the customer of a quarantined token; store it if that one was expected.

        True where it was stored.

        Raises:
            CannotOpen: Its key is not among the accepted ones.
            FinchFault: Finch did not respond; the token stays in quarantine.
        """
        document = self.vault.open_grant(attempt)
        token = Secret(json.loads(document.reveal())["access_token"])
        introspection = self.client.introspect(token, within=_INTROSPECT_DEADLINE)
        grant = completed_grant(document, introspection)
        if grant is None or grant.connection_id is None:
            return False
        if grant.customer_id not in attempt.customer_ids:
            return False
        # The token is as old as its attempt: a newer one of this connection stays.
        at = attempt.settled_at or attempt.claimed_at
        completed = attempt.settled(
            AttemptState.STORED,
            at=at,
            customer_id=grant.customer_id,
            connection_id=grant.connection_id,
            reason=None,
            sealed=None,
            # An operator's process may not know the hook that the application has.
            notified=attempt.notified and self.settings.on_connected is None,
        )
        stored = self.vault.seal_connection(grant, attempt=completed, at=at)
        self.storage.settle(completed, stored)
        self.events.of_attempt("finch.quarantine.completed", logging.WARNING, completed)
        self.connected.run(completed)
        return True

    def _report_drained(self, entry: Entry) -> None:
        """Report it, and run the `on_connected` that was pending with it."""
        spooled = entry.connection
        stored = self.storage.get(spooled.connection_id) if spooled else None
        # A newer token was stored meanwhile, or the connection has ended.
        if spooled and (stored is None or stored.attempt_id != spooled.attempt_id):
            self.events.of_attempt("finch.spool.superseded", logging.WARNING, entry.attempt)
        else:
            self.events.of_attempt("finch.spool.drained", logging.INFO, entry.attempt)
        self.connected.run(entry.attempt)

    def _forget(self) -> int:
        """Remove some hundreds of old rows; how many, 0 once none is left."""
        now = self.settings.clock()
        events = self.storage.forget_events(received_before=now - EVENT_RETENTION)
        ended = self.storage.forget_history(ended_before=now - self.settings.history_retention)
        return events + ended + self.storage.forget(settled_before=now - RETENTION)

    def _report_end(self, ended: Attempt) -> Attempt:
        """Report that end, then record the report: twice is better than never."""
        # Ambiguous: the application's on_problem raised when its exchange ended.
        ambiguous = ended.reason == "ambiguous"
        reported = self.events.of_attempt(
            "finch.exchange.ambiguous" if ambiguous else "finch.attempt.interrupted",
            logging.ERROR,
            ended,
        )
        if not reported:
            return ended
        done = dataclasses.replace(ended, notified=True)
        with contextlib.suppress(StorageFault):  # the next sweep reports it once more
            self.storage.settle(done)
        return done
