"""
From a claimed code to a stored token: exchange, whose it is, seal, settle.

Everything that can fail has come before. What comes after Finch's answer is the least possible:
compare, seal with a key in memory, one durable write; if that fails for good, one durable file.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.binding import Binding
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import (
    BadResponse,
    CodeRejected,
    FinchFault,
    FinchUnavailable,
    StorageFault,
)
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import Grant
from finch_middleware.hooks import Events
from finch_middleware.keeping import Keeping
from finch_middleware.outcomes import Connected, Failed, Finishing, Invalid
from finch_middleware.records import Connection, SealedToken, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.tickets import Ticket, Tickets

#: Released attempts whose end this process remembers, for those who waited for it.
RELEASED_LIMIT = 1000
_TICK = timedelta(microseconds=1)

Redeemed = Connected | Finishing | Invalid | Failed


class Exchange:
    """Presents a claimed code to Finch, once, and keeps what comes back."""

    def __init__(
        self,
        *,
        settings: Settings,
        api: FinchClient,
        vault: Vault,
        tickets: Tickets,
        storage: Storage,
        keeping: Keeping,
        events: Events,
    ) -> None:
        self._settings = settings
        self._api = api
        self._vault = vault
        self._tickets = tickets
        self._storage = storage
        self._keeping = keeping
        self._events = events
        self._released: dict[str, Failed] = {}

    def redeem(
        self,
        attempt: Attempt,
        code: Secret,
        *,
        binding: Binding,
        known: Sequence[StoredConnection],
        within: timedelta,
    ) -> Redeemed:
        """
        How the one presentation of *code* ended; *attempt* is claimed and ours.

        *known*: what stood for these customers before; *within*: how long Finch may take.
        """
        redirect_uri = self._settings.redirect_uri if binding.kind == "redirect" else None
        try:
            grant = self._api.exchange(code, redirect_uri=redirect_uri, within=within)
        except FinchUnavailable as fault:
            return self._unspent(attempt, fault, binding=binding)
        except FinchFault as fault:
            return self._spent(attempt, fault, binding=binding)
        return self._kept(attempt, grant, binding=binding, known=known)

    def released(self, attempt: Attempt) -> Failed | None:
        """How *attempt* ended, if this process released it: its code is unspent."""
        return self._released.get(attempt.attempt_id)

    def notify(self, attempt: Attempt) -> bool:
        """
        Run `on_connected` if it is owed, and note it. Whether it ran; if it raises, it stays owed.

        It is given the connection as it stands, which may have a newer token than *attempt*'s.
        """
        hook = self._settings.on_connected
        if hook is None or attempt.notified or attempt.connection_id is None:
            return False
        try:
            stored = self._storage.get(attempt.connection_id)
            if stored is not None:
                hook(Connection.of(stored, functools.partial(self._vault.open_grant, stored)))
        except Exception:  # the application's own code; the person is connected all the same
            self._events.of_attempt(
                "finch.hook.failed", logging.ERROR, attempt, reason="on_connected"
            )
            return False
        # Without a connection the application removed it meanwhile: nothing is left to tell of.
        done = attempt.settled(attempt.state, at=attempt.settled_at or self._now(), notified=True)
        return self._keeping.note(done) and stored is not None

    def _unspent(self, attempt: Attempt, fault: FinchUnavailable, *, binding: Binding) -> Failed:
        failed = Failed(
            reference=attempt.reference,
            return_to=binding.return_to,
            request_id=fault.request_id,
            reason=fault.reason,
            retry_after=fault.retry_after,
        )
        # Before the release: whoever waits for this attempt looks here once it is gone.
        self._remember(attempt, failed)
        try:
            self._storage.release(attempt)
        except StorageFault:
            self._events.of_attempt("finch.claim.not_released", logging.ERROR, attempt)
        level = (
            logging.WARNING if fault.reason in ("unreachable", "throttled") else logging.CRITICAL
        )
        self._report_fault(fault, level, attempt)
        return failed

    def _remember(self, attempt: Attempt, failed: Failed) -> None:
        if len(self._released) >= RELEASED_LIMIT:
            self._released.clear()
        self._released[attempt.attempt_id] = failed

    def _spent(self, attempt: Attempt, fault: FinchFault, *, binding: Binding) -> Failed:
        state, reason = AttemptState.AMBIGUOUS, "ambiguous"
        if isinstance(fault, CodeRejected):
            state, reason = AttemptState.FAILED, "code_rejected"
        elif isinstance(fault, BadResponse):
            state, reason = AttemptState.FAILED, "bad_response"
        level = logging.WARNING if reason == "code_rejected" else logging.ERROR
        self._report_fault(fault, level, attempt)
        self._keeping.note(
            attempt.settled(
                state,
                at=self._now(),
                reason=reason,
                return_to=binding.return_to,
                request_id=fault.request_id,
            )
        )
        return Failed(
            reference=attempt.reference,
            return_to=binding.return_to,
            request_id=fault.request_id,
            reason=reason,
        )

    def _kept(
        self,
        attempt: Attempt,
        grant: Grant,
        *,
        binding: Binding,
        known: Sequence[StoredConnection],
    ) -> Redeemed:
        if grant.connection_id is None or grant.customer_id not in binding.customers:
            return self._quarantined(attempt, grant, binding=binding)
        flow = binding.ended_by(grant.customer_id)
        now = self._now()
        obtained_at = self._obtained_at(attempt, known, now=now)
        stored = self.sealed(attempt, grant, grant.connection_id, grant.customer_id, at=obtained_at)
        settled = attempt.settled(
            AttemptState.STORED,
            at=now,
            flow_hash=flow.key if flow else None,
            bound_to=binding.keys(grant.customer_id),
            customer_id=grant.customer_id,
            connection_id=grant.connection_id,
            return_to=flow.ticket.return_to if flow else binding.return_to,
            request_id=grant.request_id,
            notified=self._settings.on_connected is None,
        )
        outcome = self._saved(settled, stored, ticket=flow.ticket if flow else None)
        if any(each.connection_id == grant.connection_id for each in known):
            self._events.of_attempt("finch.token.replaced", logging.INFO, settled)
        missing = set(self._settings.products) - {p.rpartition(":")[2] for p in grant.products}
        if missing:
            self._events.of_attempt("finch.products.fewer", logging.WARNING, settled)
        return outcome

    def _obtained_at(
        self, attempt: Attempt, known: Sequence[StoredConnection], *, now: datetime
    ) -> datetime:
        """Now, or right after what stood before: a clock set back must not bury a newer token."""
        newest = max((each.obtained_at for each in known), default=None)
        if newest is None or newest < now:
            return now
        self._events.of_attempt("finch.clock.behind", logging.WARNING, attempt)
        return newest + _TICK

    def sealed(
        self,
        attempt: Attempt,
        grant: Grant,
        connection_id: str,
        customer_id: str,
        *,
        at: datetime,
    ) -> StoredConnection:
        """The row of a grant that was obtained at that instant."""
        return StoredConnection(
            connection_id=connection_id,
            customer_id=customer_id,
            client_id=self._settings.client_id,
            provider_id=grant.provider_id,
            products=grant.products,
            client_type=grant.client_type,
            connection_type=grant.connection_type,
            sealed=self._vault.seal_grant(
                grant.document, connection_id=connection_id, customer_id=customer_id
            ),
            obtained_at=at,
            attempt_id=attempt.attempt_id,
        )

    def _saved(
        self, settled: Attempt, stored: StoredConnection, *, ticket: Ticket | None
    ) -> Connected | Finishing | Failed:
        cookies = (self._tickets.spent(ticket, at=stored.obtained_at),) if ticket else ()
        return_to = settled.return_to or self._settings.return_to
        kept = self._keeping.secure(settled, stored)
        if kept == "stored":
            self._events.of_attempt("finch.connection.stored", logging.INFO, settled)
            self.notify(settled)
            return Connected(
                reference=settled.reference,
                return_to=return_to,
                cookies=cookies,
                request_id=settled.request_id,
                connection_id=stored.connection_id,
                customer_id=stored.customer_id,
            )
        if kept == "spooled":
            return Finishing(
                reference=settled.reference,
                return_to=return_to,
                cookies=cookies,
                request_id=settled.request_id,
                spooled=True,
            )
        return Failed(
            reference=settled.reference,
            return_to=return_to,
            request_id=settled.request_id,
            reason="token_lost",
        )

    def _quarantined(self, attempt: Attempt, grant: Grant, *, binding: Binding) -> Invalid | Failed:
        text = self._vault.seal(grant.document, purpose="quarantine", context=(attempt.attempt_id,))
        settled = attempt.settled(
            AttemptState.QUARANTINED,
            at=self._now(),
            reason="other_customer" if grant.connection_id and grant.customer_id else "incomplete",
            connection_id=grant.connection_id,
            return_to=binding.return_to,
            request_id=grant.request_id,
            sealed=SealedToken(text=text),
            # Kept for the day when an operator completes it.
            notified=self._settings.on_connected is None,
        )
        kept = self._keeping.secure(settled, None)
        self._events.of_attempt(
            "finch.token.quarantined", logging.CRITICAL, settled, reason=settled.reason
        )
        return (Failed if kept == "lost" else Invalid)(
            reference=attempt.reference,
            return_to=binding.return_to,
            request_id=grant.request_id,
            reason="token_lost" if kept == "lost" else "customer_unconfirmed",
        )

    def _report_fault(self, fault: FinchFault, level: int, attempt: Attempt) -> None:
        name = f"finch.exchange.{fault.code.removeprefix('exchange_')}"
        self._events.of_attempt(
            name, level, attempt, reason=fault.reason, request_id=fault.request_id
        )

    def _now(self) -> datetime:
        return self._settings.clock()
