"""
A callback becomes an Outcome, and that a response: parse, bind, claim, exchange, respond.

Read `finish` from its top: each line is one step, in the order in which things may fail. Only
`exchange` presents a code to Finch, and only for the request that won the claim.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from datetime import timedelta

from finch_middleware.attempts import LEASE, Attempt, AttemptState, Claim, outcome_of
from finch_middleware.binding import Binder, Binding, SignedIn
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.duplicates import Duplicates
from finch_middleware.errors import (
    FinchError,
    FinchUnavailable,
    KeyUnavailable,
    ReturnFault,
    SpoolUnavailable,
    StorageFault,
)
from finch_middleware.exchange import Exchange, Exchanged
from finch_middleware.hooks.events import Events
from finch_middleware.outcomes import Declined, Failed, Invalid, Outcome, Response, SetCookie
from finch_middleware.secret import Secret
from finch_middleware.tickets import Ticket, Tickets
from finch_middleware.web.pages import Pages, allow_origins, with_cookies
from finch_middleware.web.request import CallbackParams, CallbackRequest, Visit, parse_callback

#: What a callback may spend before the exchange; any excess is taken from the exchange's time.
BEFORE_THE_EXCHANGE = timedelta(seconds=6)
EXCHANGE_AT_LEAST = timedelta(seconds=3)
RETRY_AFTER_SECONDS = 5


@dataclass(kw_only=True, eq=False, repr=False)
class Callback:
    """Finishes flows. Thread-safe; one for the life of the process."""

    settings: Settings
    keyed_hash: KeyedHash
    tickets: Tickets
    duplicates: Duplicates
    exchange: Exchange
    pages: Pages
    events: Events

    def __post_init__(self) -> None:
        self._binder = Binder(settings=self.settings, keyed_hash=self.keyed_hash)

    def receive(self, request: object, *, signed_in: SignedIn = None) -> Response:
        """The whole callback: `finish`, then `respond`. For any framework's request."""
        understood = CallbackRequest.of(request)
        response = self.respond(self.finish(understood, signed_in=signed_in), understood)
        understood.abandon_body()
        return response

    def finish(self, request: CallbackRequest, *, signed_in: SignedIn = None) -> Outcome:
        """
        How this callback ended. Only a broken promise of the application's own code raises.

        *signed_in*: the customers that the request's login may act for; None asks `customer_of`.
        """
        visit = Visit(return_to=self.settings.return_to)
        try:
            # With a login, a ticket that another host planted is of no use to anybody.
            login = signed_in is not None or self.settings.customer_of is not None
            tickets = self.tickets.found(request.cookies(joined=login))
            if login and any(each.invited for each in tickets):
                tickets = self._without_planted(tickets, request)
            if tickets:
                visit.return_to = tickets[0].return_to
            if request.method == "POST":
                self._binder.admit(request, tickets=tickets)
            params = parse_callback(request)
            binding = self._binder.bind(request, params, tickets=tickets, signed_in=signed_in)
            visit.return_to = binding.return_to
            if params.code is None:
                return self._decline(visit, params, binding)
            return self._finish_code(visit, params.code, binding)
        except ReturnFault as fault:
            return self._reject(visit, fault)
        except StorageFault as fault:
            return self._fail(visit, fault, "finch.storage.unavailable")
        except KeyUnavailable as fault:
            return self._fail(visit, fault, "finch.key.unavailable")
        except SpoolUnavailable as fault:
            return self._fail(visit, fault, "finch.spool.unavailable")

    def respond(self, outcome: Outcome, request: CallbackRequest) -> Response:
        """The response for *outcome*: the application's `render`, or else our pages."""
        rendered = self._render(outcome, request)
        if rendered is None:
            response = self.pages.respond(outcome, request)
        else:
            response = with_cookies(rendered, outcome.cookies)
        origins = self.settings.spa_origins
        return allow_origins(response, request, spa_origins=origins) if origins else response

    def _render(self, outcome: Outcome, request: CallbackRequest) -> Response | None:
        """The application's own response, where it makes one."""
        if self.settings.render is None:
            return None
        try:
            rendered = self.settings.render(outcome, request)
            if rendered is not None and not isinstance(rendered, Response):
                raise TypeError("render must return a werkzeug Response, or None")
            return rendered
        except Exception:  # the application's own code; the code is spent, the person needs a page
            self.events.report(
                "finch.hook.failed", logging.ERROR, reference=outcome.reference, reason="render"
            )
            return None

    def _without_planted(self, tickets: list[Ticket], request: CallbackRequest) -> list[Ticket]:
        """Less those of invitations, which need no login, that another host may have planted."""
        alone = self.tickets.found(request.cookies())
        return [each for each in tickets if not each.invited or each in alone]

    def _finish_code(self, visit: Visit, code: Secret, binding: Binding) -> Outcome:
        mine = self._attempt(visit, code, binding)
        repeated = self.duplicates.spooled(mine)
        if repeated is not None:
            return repeated
        if not binding.ends:
            return self.duplicates.recorded(mine, visit=visit)
        self.exchange.prepare()
        attempt, existing = self.duplicates.claim(mine, places=binding.places)
        if attempt.attempt_id != mine.attempt_id:
            return self.duplicates.outcome(attempt, mine=mine, visit=visit)
        claim = Claim(attempt=attempt, redirect_uri=binding.redirect_uri, ends=binding.ends)
        try:
            exchanged = self.exchange.run(
                claim, code, existing=existing, within=self._exchange_time(visit)
            )
        except FinchUnavailable as fault:
            failed = visit.failed(
                fault.page_reason, retry_after=fault.retry_after, request_id=fault.request_id
            )
            self.duplicates.release(attempt, failed)
            return failed
        return self._first_outcome(exchanged, binding)

    def _attempt(self, visit: Visit, code: Secret, binding: Binding) -> Attempt:
        """What this request claims, if it may present the code."""
        now = self.settings.clock()
        return Attempt(
            attempt_id=os.urandom(16).hex(),
            code_hash=self.keyed_hash("code", code.reveal()),
            bound_to=binding.bound_to,
            client_id=self.settings.client_id,
            flow_hash=next(iter(binding.places), None),
            customer_ids=tuple(binding.ends),
            reference=visit.reference,
            return_to=binding.return_to,
            claimed_at=now,
            leased_until=now + LEASE,
        )

    def _exchange_time(self, visit: Visit) -> timedelta:
        """The exchange's deadline, less what came before it beyond its share."""
        deadline = self.settings.exchange_deadline
        excess = timedelta(seconds=time.monotonic() - visit.began) - BEFORE_THE_EXCHANGE
        return max(deadline - max(excess, timedelta()), min(deadline, EXCHANGE_AT_LEAST))

    def _first_outcome(self, exchanged: Exchanged, binding: Binding) -> Outcome:
        """The outcome, with the cookie that lets a reload of the ended flow be recognised."""
        attempt, cookies = exchanged.attempt, list[SetCookie]()
        ticket = binding.tickets.get(attempt.customer_id or "")
        if attempt.state is AttemptState.STORED and ticket is not None:
            cookies = [self.tickets.spent(ticket, at=self.settings.clock())]
        return outcome_of(attempt, spooled=exchanged.spooled, cookies=cookies)

    def _decline(self, visit: Visit, params: CallbackParams, binding: Binding) -> Declined:
        if not binding.ends:
            raise ReturnFault("unsolicited")
        self._report("finch.callback.declined", logging.INFO, visit, reason=params.declined)
        return Declined(
            reference=visit.reference, return_to=binding.return_to, reason=params.declined
        )

    def _reject(self, visit: Visit, fault: ReturnFault) -> Invalid:
        # HEAD, prefetches and the like are everyday traffic; the rest may be an attack.
        level = logging.DEBUG if fault.reason in ("method", "prefetch") else logging.WARNING
        self._report(
            "finch.callback.rejected",
            level,
            visit,
            reason=fault.reason,
            attempt_id=fault.attempt_id,
        )
        return visit.invalid(fault.reason)

    def _fail(self, visit: Visit, fault: FinchError, name: str) -> Failed:
        self._report(name, logging.ERROR, visit, reason=getattr(fault, "reason", fault.code))
        return visit.failed(fault.page_reason, retry_after=RETRY_AFTER_SECONDS)

    def _report(self, name: str, level: int, visit: Visit, **facts: str | None) -> None:
        elapsed_ms = int((time.monotonic() - visit.began) * 1000)
        self.events.report(name, level, reference=visit.reference, elapsed_ms=elapsed_ms, **facts)
