"""
What brings home or reports everything that a fault left behind.

In passing, by begin and finish: one spooled token a request. By an operator, or a timer: all
of them, every interrupted attempt, every `on_connected` still owed, every quarantined token
that Finch can explain. Nothing here presents a code, and nothing disconnects.
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
from finch_middleware.exchange import Exchange
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import Grant, completed_grant
from finch_middleware.hooks import Events
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Entry, Spool

#: Settled attempts are kept this long, far beyond a code's ten minutes, and then forgotten.
RETENTION = timedelta(days=7)
_FORGET_EVERY_SECONDS = 3600
_INTROSPECT_DEADLINE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """
    What a sweep found.

    Attributes:
        drained: Attempts whose token came home from the spool.
        interrupted: Attempts that a crash left behind; each is reported by one sweep only.
        notified: Stored connections whose `on_connected` ran at last.
        forgotten: How many settled attempts were removed after their retention.
    """

    drained: tuple[Attempt, ...]
    interrupted: tuple[Attempt, ...]
    notified: tuple[Attempt, ...]
    forgotten: int


class Recovery:
    """Drains the spool, ends what was interrupted, completes what was quarantined."""

    def __init__(
        self,
        *,
        settings: Settings,
        api: FinchClient,
        vault: Vault,
        storage: Storage,
        spool: Spool,
        redeemer: Exchange,
        events: Events,
    ) -> None:
        self._settings = settings
        self._api = api
        self._vault = vault
        self._storage = storage
        self._spool = spool
        self._redeemer = redeemer
        self._events = events
        self._forget_at = 0.0

    def drain(self, *, limit: int | None = None) -> tuple[Attempt, ...]:
        """
        The spooled attempts, at most *limit*, that the storage now holds.

        Raises:
            StorageFault: Storage is still away; what waits goes on waiting.
        """
        drained = []
        client_id = self._settings.client_id
        for entry in self._spool.drain(self._storage, client_id=client_id, limit=limit):
            self._came_home(entry)
            drained.append(entry.attempt)
        return tuple(drained)

    def _came_home(self, entry: Entry) -> None:
        """Report it, and run the `on_connected` that waited with it."""
        stored = self._storage.get(entry.connection.connection_id) if entry.connection else None
        if stored is not None and stored.attempt_id != entry.attempt.attempt_id:
            self._events.of_attempt("finch.spool.superseded", logging.WARNING, entry.attempt)
        else:
            self._events.of_attempt("finch.spool.drained", logging.INFO, entry.attempt)
        self._redeemer.notify(entry.attempt)

    def drain_in_passing(self) -> None:
        """Bring one spooled token home, if the storage is back; once an hour, forget a little."""
        try:
            self.drain(limit=1)
            if time.monotonic() >= self._forget_at:
                self._forget_in_passing()
        except StorageFault:
            return

    def sweep(self) -> Swept:
        """
        Everything that can be settled without asking Finch.

        Raises:
            StorageFault: The storage is away; the next sweep goes on.
        """
        drained = self.drain()
        now = self._settings.clock()
        owing = [
            attempt
            for attempt in self._storage.unsettled(leased_before=now)
            if attempt.client_id == self._settings.client_id
        ]
        stored = [each for each in owing if each.state is AttemptState.STORED]
        ended = [self._ended(each) for each in owing if each.state is not AttemptState.STORED]
        return Swept(
            drained=drained,
            interrupted=tuple(each for each in ended if each is not None),
            notified=tuple(each for each in stored if self._redeemer.notify(each)),
            forgotten=self._forgotten(),
        )

    def interrupted(self, standing: Attempt) -> Attempt:
        """
        The end of an attempt whose owner went away; reported by whoever comes first, once.

        Raises:
            StorageFault: It could not be written; the next visit reports it.
        """
        return self._ended(standing) or self._interrupted(standing)

    def quarantined(self) -> list[Attempt]:
        """
        The attempts that hold a token which nobody could be given, the oldest first.

        Raises:
            StorageFault: The storage is away.
        """
        found = self._storage.quarantined()
        mine = (each for each in found if each.client_id == self._settings.client_id)
        return sorted(mine, key=lambda each: each.claimed_at)

    def complete(self, attempt: Attempt) -> bool:
        """
        Ask Finch whose a quarantined token is, and store it if it was expected. Whether it was.

        Raises:
            CannotOpen: Its key is not among the accepted ones.
            FinchFault: Finch did not answer; the token stays where it is.
            StorageFault: The storage is away.
        """
        if attempt.sealed is None:
            return False
        answer = self._vault.open(
            attempt.sealed.text, purpose="quarantine", context=(attempt.attempt_id,)
        )
        grant = self._explained(answer)
        if grant is None or grant.connection_id is None:
            return False
        if grant.customer_id not in attempt.customer_ids:
            return False
        at = attempt.settled_at or attempt.claimed_at
        # Of the moment when it was obtained: a newer token of this connection stays.
        stored = self._redeemer.sealed(
            attempt, grant, grant.connection_id, grant.customer_id, at=at
        )
        completed = attempt.settled(
            AttemptState.STORED,
            at=at,
            customer_id=grant.customer_id,
            connection_id=grant.connection_id,
            reason=None,
            sealed=None,
            # An operator's process may not know the hook that the application has.
            notified=attempt.notified and self._settings.on_connected is None,
        )
        self._storage.settle(completed, stored)
        self._events.of_attempt("finch.quarantine.completed", logging.WARNING, completed)
        self._redeemer.notify(completed)
        return True

    def _explained(self, answer: Secret) -> Grant | None:
        """The quarantined answer, with what Finch says of its token now."""
        token = Secret(json.loads(answer.reveal())["access_token"])
        told = self._api.introspect(token, within=_INTROSPECT_DEADLINE)
        return completed_grant(answer, told)

    def _forget_in_passing(self) -> None:
        # Set first: where the storage is away, the next request does not try again.
        self._forget_at = time.monotonic() + _FORGET_EVERY_SECONDS
        if self._forget() > 0:
            self._forget_at = 0.0

    def _forgotten(self) -> int:
        """How many settled attempts were removed, until there was none to remove."""
        gone = 0
        while batch := self._forget():
            gone += batch
        return gone

    def _forget(self) -> int:
        return self._storage.forget(settled_before=self._settings.clock() - RETENTION)

    def _interrupted(self, standing: Attempt) -> Attempt:
        """That end, its report still owed: for a lease by us, after that by any sweep."""
        now = self._settings.clock()
        return standing.settled(
            AttemptState.AMBIGUOUS,
            at=now,
            reason="interrupted",
            notified=False,
            leased_until=now + LEASE,
        )

    def _ended(self, standing: Attempt) -> Attempt | None:
        """The attempt as ended and reported. None: its owner, or another sweep, was faster."""
        if standing.state is not AttemptState.CLAIMED:
            return self._told(standing)  # whoever had ended it went away before it was reported
        ended = self._interrupted(standing)
        return self._told(ended) if self._storage.settle(ended) else None

    def _told(self, ended: Attempt) -> Attempt:
        """Report that end, then note that. Told twice is better than never."""
        since = self._settings.clock() - ended.claimed_at
        self._events.of_attempt(
            "finch.attempt.interrupted",
            logging.ERROR,
            ended,
            elapsed_ms=int(since.total_seconds() * 1000),
        )
        told = dataclasses.replace(ended, notified=True)
        with contextlib.suppress(StorageFault):  # the next sweep tells it once more
            self._storage.settle(told)
        return told
