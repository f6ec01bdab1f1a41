"""
From a claimed attempt to a settled one: present the code, check ownership, seal, store.

Everything that can fail comes before the code is presented. After Finch's response comes the
least possible: compare, seal with a key in memory, one durable write; if that fails for good,
one durable file in the spool.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finch_middleware.attempts import Attempt, AttemptState, Claim
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import (
    BadResponse,
    CodeRejected,
    FinchFault,
    FinchUnavailable,
    SpoolUnavailable,
)
from finch_middleware.finch.client import FinchClient
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.hooks.events import Events
from finch_middleware.records import Grant, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool

#: Pauses, in seconds, before each try to settle; of 0 there is none, as it would end our turn.
SETTLE_PAUSES = (0.0, 0.2, 0.8)
#: No try begins later than this: a try may wait three seconds, and the spool comes after it.
SETTLE_TRIES_SECONDS = 2.0
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """A settled attempt, and whether it waits in the spool rather than in the storage."""

    attempt: Attempt
    spooled: bool = False


@dataclass(kw_only=True, eq=False, repr=False)
class Exchange:
    """Presents a claimed code to Finch and keeps the token that comes back."""

    settings: Settings
    client: FinchClient
    vault: Vault
    storage: Storage
    spool: Spool
    connected: ConnectedHook
    events: Events

    def prepare(self) -> None:
        """
        Return once a token obtained now could be encrypted, and kept if the storage fails.

        Raises:
            KeyUnavailable, SpoolUnavailable: It could not; the code is unspent.
        """
        self.vault.prove()
        self.spool.prove()

    def run(
        self,
        claim: Claim,
        code: Secret,
        *,
        existing: Sequence[StoredConnection],
        within: timedelta,
    ) -> Exchanged:
        """
        The attempt after *code* was presented; `FinchClient` sends it again only after a 429.

        *existing*: the customers' connections before it; *within*: how long Finch may take.

        Raises:
            FinchUnavailable: Finch did nothing: the code is unspent, and its claim can be released.
        """
        try:
            grant = self.client.exchange(code, redirect_uri=claim.redirect_uri, within=within)
        except FinchUnavailable as fault:
            # What only an operator can change is as urgent as an outage of our own.
            passing = fault.reason in ("unreachable", "throttled")
            level = logging.WARNING if passing else logging.CRITICAL
            self._report(fault, "finch.exchange.finch_unavailable", level, claim.attempt)
            raise
        except FinchFault as fault:
            return Exchanged(attempt=self._settle_without_token(claim.attempt, fault))
        before = next((e for e in existing if e.connection_id == grant.connection_id), None)
        if grant.customer_id is None and before is not None:
            # Finch names no customer where a connection older than sessions is renewed.
            grant = dataclasses.replace(grant, customer_id=before.customer_id)
        if grant.customer_id not in claim.attempt.customer_ids or grant.connection_id is None:
            return self._quarantine(claim.attempt, grant)
        return self._store(claim, grant, before=before, existing=existing)

    def _settle_without_token(self, attempt: Attempt, fault: FinchFault) -> Attempt:
        match fault:
            case CodeRejected():
                state, name = AttemptState.FAILED, "finch.exchange.code_rejected"
            case BadResponse():
                state, name = AttemptState.FAILED, "finch.exchange.bad_response"
            case _:
                state, name = AttemptState.AMBIGUOUS, "finch.exchange.ambiguous"
        level = logging.WARNING if isinstance(fault, CodeRejected) else logging.ERROR
        # Before it is settled: a process that ends in between leaves a claim, which is reported.
        reported = self._report(fault, name, level, attempt)
        settled = attempt.settled(
            state,
            at=self.settings.clock(),
            reason=name.rpartition(".")[2],
            request_id=fault.request_id,
            notified=reported or state is not AttemptState.AMBIGUOUS,
        )
        error = self._settle(settled, None, pauses=(0.0,))
        if error:
            self._report_storage(settled, error)
        return settled

    def _store(
        self,
        claim: Claim,
        grant: Grant,
        *,
        before: StoredConnection | None,
        existing: Sequence[StoredConnection],
    ) -> Exchanged:
        """*before*: this connection with its older token, if it was stored."""
        now = self.settings.clock()
        obtained_at = self._obtained_at(claim.attempt, existing, now)
        settled = claim.attempt.settled(
            AttemptState.STORED,
            at=now,
            **claim.ends[grant.customer_id or ""],
            customer_id=grant.customer_id,
            connection_id=grant.connection_id,
            request_id=grant.request_id,
            notified=self.settings.on_connected is None,
        )
        stored = self.vault.seal_connection(grant, attempt=settled, at=obtained_at)
        exchanged = self._save(settled, stored)
        if exchanged == Exchanged(attempt=settled):
            self.events.of_attempt("finch.connection.stored", logging.INFO, settled)
            if not settled.notified:
                self.connected.run(settled)
        if before is not None:
            self.events.of_attempt("finch.token.replaced", logging.INFO, settled)
        if set(self.settings.products) - {p.rpartition(":")[2] for p in grant.products}:
            self.events.of_attempt("finch.products.fewer", logging.WARNING, settled)
        return exchanged

    def _obtained_at(
        self, attempt: Attempt, existing: Sequence[StoredConnection], now: datetime
    ) -> datetime:
        """Now, or right after the newest token: a clock set back must not hide a newer one."""
        newest = max((each.obtained_at for each in existing), default=None)
        if newest is None or newest < now:
            return now
        self.events.of_attempt("finch.clock.behind", logging.WARNING, attempt)
        return newest + _TICK

    def _quarantine(self, attempt: Attempt, grant: Grant) -> Exchanged:
        settled = attempt.settled(
            AttemptState.QUARANTINED,
            at=self.settings.clock(),
            reason="other_customer" if grant.connection_id and grant.customer_id else "incomplete",
            connection_id=grant.connection_id,
            request_id=grant.request_id,
            sealed=self.vault.seal_quarantined(grant.document, attempt_id=attempt.attempt_id),
            # Pending until an operator completes it.
            notified=self.settings.on_connected is None,
        )
        exchanged = self._save(settled, None)
        self.events.of_attempt(
            "finch.token.quarantined", logging.CRITICAL, settled, reason=settled.reason
        )
        return exchanged

    def _save(self, settled: Attempt, stored: StoredConnection | None) -> Exchanged:
        """Save the token. It is reported only afterwards: the application's hook may be slow."""
        try:
            error = self._settle(settled, stored, pauses=SETTLE_PAUSES)
        except BaseException as end:  # the worker is being stopped; its token is saved first
            self._save_in_spool(settled, stored, error=type(end).__name__)
            raise
        if error:
            return self._save_in_spool(settled, stored, error=error)
        return Exchanged(attempt=settled)

    def _save_in_spool(
        self, settled: Attempt, stored: StoredConnection | None, *, error: str
    ) -> Exchanged:
        try:
            self.spool.put(settled, stored)
        except SpoolUnavailable:
            self._report_storage(settled, error)
            self.events.of_attempt("finch.token.lost", logging.CRITICAL, settled)
            lost = dataclasses.replace(settled, state=AttemptState.FAILED, reason="token_lost")
            return Exchanged(attempt=lost)
        self._report_storage(settled, error)
        self.events.of_attempt("finch.token.spooled", logging.ERROR, settled)
        return Exchanged(attempt=settled, spooled=True)

    def _settle(
        self, settled: Attempt, stored: StoredConnection | None, *, pauses: Sequence[float]
    ) -> str:
        """Empty once the storage has confirmed it; otherwise the name of the last error."""
        until = time.monotonic() + SETTLE_TRIES_SECONDS
        name = ""
        for pause in pauses:
            if pause:
                time.sleep(pause)
            try:
                self.storage.settle(settled, stored)
            except Exception as error:  # whatever a storage raises, the token must be saved
                name = type(error).__name__
            else:
                if name:
                    self.events.of_attempt(
                        "finch.storage.retried", logging.WARNING, settled, reason=name
                    )
                return ""
            if time.monotonic() > until:
                break
        return name

    def _report(self, fault: FinchFault, name: str, level: int, attempt: Attempt) -> bool:
        return self.events.of_attempt(
            name, level, attempt, reason=fault.reason, request_id=fault.request_id
        )

    def _report_storage(self, settled: Attempt, error: str) -> None:
        self.events.of_attempt("finch.storage.unavailable", logging.ERROR, settled, reason=error)
