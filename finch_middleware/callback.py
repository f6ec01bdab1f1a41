"""
The story itself: `begin` opens Finch Connect, `finish` turns the return into an Outcome.

Read each from its top: every line is one step, in the order in which things may fail. A code
is presented to Finch by `redeem` alone, and only for the request whose claim stands.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Sequence
from datetime import timedelta

from finch_middleware.attempts import LEASE, Attempt, AttemptState
from finch_middleware.begin import Opened, Opening, connect_location
from finch_middleware.binding import Binder, Binding, SignedIn
from finch_middleware.config.customers import customer_ids
from finch_middleware.config.settings import Settings
from finch_middleware.config.urls import check_return_to
from finch_middleware.crypto.vault import KeyedHash, Vault
from finch_middleware.duplicates import Duplicates
from finch_middleware.errors import (
    AlreadyConnected,
    KeyUnavailable,
    ReturnFault,
    SpoolUnavailable,
    StorageFault,
    StorageUnavailable,
)
from finch_middleware.exchange import Exchange
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.hooks import Events
from finch_middleware.operations.recovery import Recovery
from finch_middleware.outcomes import Declined, Failed, Finishing, Invalid, Outcome, Repeated
from finch_middleware.records import StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import TICKETS_IN_A_BROWSER, Ticket, Tickets
from finch_middleware.visit import Visit
from finch_middleware.web.params import CallbackParams, parse_callback
from finch_middleware.web.request import CallbackRequest

SESSION_DEADLINE = timedelta(seconds=10)
#: What a callback may spend before the exchange; what is over is taken from the exchange's time.
BEFORE_THE_EXCHANGE = timedelta(seconds=6)
EXCHANGE_AT_LEAST = timedelta(seconds=3)
STORAGE_RETRY_AFTER_SECONDS = 5
#: Claims of unknown outcome that a process remembers; a forgotten one ends with its lease.
GIVEN_UP_LIMIT = 10_000


class Flow:
    """Begins and finishes flows. Thread-safe; one for the life of the process."""

    def __init__(
        self,
        *,
        settings: Settings,
        api: FinchClient,
        vault: Vault,
        tickets: Tickets,
        binder: Binder,
        keyed_hash: KeyedHash,
        storage: Storage,
        spool: Spool,
        redeemer: Exchange,
        repeats: Duplicates,
        recovery: Recovery,
        events: Events,
    ) -> None:
        self._settings = settings
        self._api = api
        self._vault = vault
        self._tickets = tickets
        self._binder = binder
        self._hash = keyed_hash
        self._storage = storage
        self._spool = spool
        self._redeemer = redeemer
        self._repeats = repeats
        self._recovery = recovery
        self._events = events
        self._given_up: set[str] = set()

    def begin(self, opening: Opening, *, request: CallbackRequest | None) -> Opened:
        """
        A Connect session, and the ticket that binds its return to this browser.

        Raises:
            UsageError, AlreadyConnected, FinchRefused: As `FinchConnect.begin` says.
            FinchUnavailable, StorageUnavailable, SpoolUnavailable, KeyUnavailable: Nobody is
                sent anywhere.
        """
        opening.checked(self._settings)
        now = self._settings.clock()
        ticket = self._tickets.issue(
            customer_id=opening.customer_id,
            return_to=check_return_to(opening.return_to, spa_origins=self._settings.spa_origins),
            kind=opening.flow,
            at=now,
            life=opening.expires_in,
        )
        # Nobody types a payroll password for a token that could not be kept.
        self._vault.prove()
        self._storage.check()
        self._spool.prove()
        self._recovery.drain_in_passing()
        session = opening.session or self._session(opening)
        self._events.report(
            "finch.session.opened",
            logging.INFO,
            customer_ids=(opening.customer_id,),
            request_id=session.request_id,
        )
        location = connect_location(
            session, ticket.state, connect_origin=self._settings.connect_origin
        )
        return Opened(
            session=session,
            location=location if opening.flow == "redirect" else None,
            state=ticket.state,
            cookies=(
                *self._tickets.surplus(
                    request.cookies() if request else (), kept=TICKETS_IN_A_BROWSER - 1
                ),
                self._tickets.cookie(ticket, at=now),
            ),
        )

    def finish(self, request: CallbackRequest, *, signed_in: SignedIn = None) -> Outcome:
        """
        How this return ended. Only a broken promise of the application's own code raises.

        *signed_in*: the customers that the request's login may act for; None asks `customer_of`.
        """
        visit = Visit.now(return_to=self._settings.return_to)
        try:
            tickets = self._tickets.found(request.cookies())
            if tickets:
                visit = dataclasses.replace(visit, return_to=tickets[0].return_to)
            returned = parse_callback(request)
            binding = self._bound(request, returned, tickets=tickets, signed_in=signed_in)
            if returned.code is None:
                return self._declined(visit, returned, binding)
            return self._claimed(visit, returned.code, binding)
        except ReturnFault as fault:
            return self._rejected(visit, fault)
        except StorageFault as fault:
            return self._storage_away(visit, fault)
        except KeyUnavailable as fault:
            self._report("finch.key.unavailable", logging.ERROR, visit, reason=fault.reason)
            return visit.failed("key_unavailable", retry_after=STORAGE_RETRY_AFTER_SECONDS)
        except SpoolUnavailable as fault:
            self._report("finch.spool.unavailable", logging.ERROR, visit, reason=fault.reason)
            return visit.failed("spool_unavailable", retry_after=STORAGE_RETRY_AFTER_SECONDS)

    def _session(self, opening: Opening) -> ConnectSession:
        fields = opening.session_fields(self._settings)
        try:
            return self._api.create_session(fields, within=SESSION_DEADLINE)
        except AlreadyConnected as fault:
            if opening.when_connected == "raise" or fault.connection_id is None:
                raise
            connection_id = fault.connection_id
            self._events.report(
                "finch.session.reauthenticates",
                logging.INFO,
                customer_ids=(opening.customer_id,),
                connection_id=connection_id,
                request_id=fault.request_id,
            )
        fields = opening.reauthentication_fields(self._settings, connection_id)
        return self._api.reauthenticate(fields, within=SESSION_DEADLINE)

    def _bound(
        self,
        request: CallbackRequest,
        returned: CallbackParams,
        *,
        tickets: Sequence[Ticket],
        signed_in: SignedIn,
    ) -> Binding:
        customer_of = self._settings.customer_of
        if signed_in is None and customer_of is not None:
            signed_in = customer_ids(customer_of(request))
        return self._binder.bind(request, returned, tickets=tickets, signed_in=signed_in)

    def _claimed(self, visit: Visit, code: Secret, binding: Binding) -> Outcome:
        code_hash = self._hash("code", code.reveal())
        self._recovery.drain_in_passing()
        waiting = self._spool.entry(code_hash)
        if waiting is not None and waiting.attempt.repeats(binding.keys()):
            return self._spooled(waiting.attempt)
        if not binding.customers:
            return self._repeated(visit, self._storage.attempt(code_hash), code_hash, binding)
        attempt = self._attempt(visit, code_hash, binding)
        self._vault.prove()
        self._spool.prove()
        known = self._known(binding)
        standing = self._lost_to(attempt)
        if standing is not None:
            return self._repeated(visit, standing, code_hash, binding)
        return self._redeemer.redeem(
            attempt, code, binding=binding, known=known, within=self._exchange_may_take(visit)
        )

    def _known(self, binding: Binding) -> list[StoredConnection]:
        """What stands for the customers whose code it may be."""
        customers = sorted(binding.customers)
        return [each for one in customers for each in self._storage.for_customer(one)]

    def _exchange_may_take(self, visit: Visit) -> timedelta:
        """The exchange's own deadline, less what came before it and took too long."""
        deadline = self._settings.exchange_deadline
        over = timedelta(milliseconds=visit.elapsed_ms) - BEFORE_THE_EXCHANGE
        return max(deadline - max(over, timedelta()), min(deadline, EXCHANGE_AT_LEAST))

    def _attempt(self, visit: Visit, code_hash: bytes, binding: Binding) -> Attempt:
        now = self._settings.clock()
        return Attempt(
            attempt_id=uuid.uuid4().hex,
            code_hash=code_hash,
            flow_hash=binding.flow_hash,
            bound_to=binding.keys(),
            client_id=self._settings.client_id,
            customer_ids=tuple(sorted(binding.customers)),
            reference=visit.reference,
            claimed_at=now,
            leased_until=now + LEASE,
        )

    def _lost_to(self, attempt: Attempt) -> Attempt | None:
        """The attempt that this one's claim lost to; None: it won."""
        standing = self._other_than(attempt)
        if standing is None or standing.attempt_id not in self._given_up:
            return standing
        if not standing.repeats(attempt.bound_to):
            return standing
        # Its commit landed after its request had ended: nobody will ever present its code.
        self._storage.release(standing)
        return self._other_than(attempt)

    def _other_than(self, attempt: Attempt) -> Attempt | None:
        """Claim for *attempt*; the other attempt that stands, or None where it is this one."""
        try:
            standing = self._storage.claim(attempt)
        except StorageUnavailable:
            # The connection may have died in the commit: our own claim may stand after all.
            if self._stands(attempt):
                return None
            raise
        return standing if standing and standing.attempt_id != attempt.attempt_id else None

    def _stands(self, attempt: Attempt) -> bool:
        """Whether this attempt's claim is the one recorded; if it is not seen, it is given up."""
        stands = False
        try:
            standing = self._storage.attempt(attempt.code_hash)
            stands = standing is not None and standing.attempt_id == attempt.attempt_id
        finally:
            # Not before: meanwhile another request would release the claim that we go on with.
            if not stands:
                self._give_up(attempt)
        return stands

    def _give_up(self, attempt: Attempt) -> None:
        """Remember that nobody is at work on this attempt, should it stand after all."""
        if len(self._given_up) >= GIVEN_UP_LIMIT:
            self._given_up.clear()
        self._given_up.add(attempt.attempt_id)

    def _repeated(
        self, visit: Visit, standing: Attempt | None, code_hash: bytes, binding: Binding
    ) -> Outcome:
        if standing is None:
            raise ReturnFault("already_used")
        return self._repeats.answer(standing, code_hash=code_hash, binding=binding, visit=visit)

    def _spooled(self, attempt: Attempt) -> Finishing | Repeated:
        """What the person was told when the token had to go to the spool."""
        return_to = attempt.return_to or self._settings.return_to
        if attempt.state is AttemptState.QUARANTINED:
            refused = Invalid(
                reference=attempt.reference,
                return_to=return_to,
                request_id=attempt.request_id,
                reason="customer_unconfirmed",
            )
            return Repeated(first=refused)
        return Finishing(
            reference=attempt.reference,
            return_to=return_to,
            request_id=attempt.request_id,
            spooled=True,
        )

    def _declined(self, visit: Visit, returned: CallbackParams, binding: Binding) -> Declined:
        if not binding.customers:
            raise ReturnFault("unsolicited")
        self._report("finch.callback.declined", logging.INFO, visit, reason=returned.declined)
        return Declined(
            reference=visit.reference, return_to=binding.return_to, reason=returned.declined
        )

    def _rejected(self, visit: Visit, fault: ReturnFault) -> Invalid:
        # HEAD, prefetches and the like are everyday traffic; the rest may be an attack.
        level = logging.DEBUG if fault.reason in ("method", "prefetch") else logging.WARNING
        self._report("finch.callback.rejected", level, visit, reason=fault.reason)
        return visit.invalid(fault.reason)

    def _storage_away(self, visit: Visit, fault: StorageFault) -> Failed:
        reason = fault.reason if isinstance(fault, StorageUnavailable) else fault.code
        self._report("finch.storage.unavailable", logging.ERROR, visit, reason=reason)
        return visit.failed("storage_unavailable", retry_after=STORAGE_RETRY_AFTER_SECONDS)

    def _report(self, name: str, level: int, visit: Visit, *, reason: str | None = None) -> None:
        self._events.report(
            name, level, reference=visit.reference, reason=reason, elapsed_ms=visit.elapsed_ms
        )
