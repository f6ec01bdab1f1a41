"""
Whose return is this? By the ticket, or by the signed-in customer; never by neither.

The callback request itself decides nothing: an attacker can make any browser send any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finch_middleware.config.options import FlowKind
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.errors import ReturnFault
from finch_middleware.tickets import Ticket, expired, with_state
from finch_middleware.web.params import CallbackParams
from finch_middleware.web.request import CallbackRequest

#: The customers that the request's login may act for; empty: signed out; None: nobody asked.
SignedIn = frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlow:
    """A flow of this browser that a code may end, and its name in storage."""

    ticket: Ticket
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """
    What a return is bound to, settled before its code is looked at.

    Attributes:
        kind: How Connect was opened: decides whether redirect_uri is sent.
        live: Flows that the code may end, the newest first.
        customers: Whose code it may be. Empty: it can only be the repeat of an earlier return.
        names: Keyed hashes of flows and customers that the request brought, each with the
            customer it stands for.
        flow_hash: The flow's key, where a state named it.
        return_to: Where the person goes on, until the customer is known.
    """

    kind: FlowKind
    live: tuple[LiveFlow, ...]
    customers: frozenset[str]
    names: tuple[tuple[bytes, str], ...]
    flow_hash: bytes | None
    return_to: str

    def keys(self, customer_id: str | None = None) -> tuple[bytes, ...]:
        """The names, or those of one customer."""
        return tuple(
            key for key, customer in self.names if customer_id is None or customer == customer_id
        )

    def ended_by(self, customer_id: str) -> LiveFlow | None:
        """The flow that a code of this customer ends: the newest of theirs."""
        return next((flow for flow in self.live if flow.ticket.customer_id == customer_id), None)


class Binder:
    """Finds the binding of a return among the browser's tickets and its login."""

    def __init__(self, *, settings: Settings, keyed_hash: KeyedHash) -> None:
        self._settings = settings
        self._hash = keyed_hash

    def bind(
        self,
        request: CallbackRequest,
        returned: CallbackParams,
        *,
        tickets: Sequence[Ticket],
        signed_in: SignedIn,
    ) -> Binding:
        """
        The binding of *returned*.

        Raises:
            ReturnFault: There is none; the reason says what was missing or did not match.
        """
        self._refuse_cross_site(request, kind=None)
        if self._settings.opened_by == "application" and not self._names_one(returned, tickets):
            return self._by_login(request, tickets=tickets, signed_in=signed_in)
        if returned.foreign_state:
            raise ReturnFault("state_mismatch")
        if returned.state is not None:
            return self._by_state(request, returned, tickets=tickets, signed_in=signed_in)
        return self._by_browser(returned, tickets=tickets, signed_in=signed_in)

    def _flow_hash(self, ticket: Ticket) -> bytes:
        return self._hash("flow", ticket.flow_id)

    def _names_one(self, returned: CallbackParams, tickets: Sequence[Ticket]) -> bool:
        return returned.state is not None and with_state(tickets, returned.state) is not None

    def _by_state(
        self,
        request: CallbackRequest,
        returned: CallbackParams,
        *,
        tickets: Sequence[Ticket],
        signed_in: SignedIn,
    ) -> Binding:
        assert returned.state is not None
        ticket = with_state(tickets, returned.state)
        if ticket is None:
            raise ReturnFault("state_mismatch" if tickets else _missing(returned))
        if expired(ticket, at=self._settings.clock()):
            raise ReturnFault("expired")
        self._refuse_cross_site(request, kind=ticket.kind)
        mine = _of_login([ticket], signed_in)
        return self._bound(mine, kind=ticket.kind, flow_hash=self._flow_hash(ticket))

    def _by_browser(
        self, returned: CallbackParams, *, tickets: Sequence[Ticket], signed_in: SignedIn
    ) -> Binding:
        # Whether Finch's redirect brings a state back is unknown; the SDK always does.
        if self._settings.require_state:
            raise ReturnFault("no_state")
        redirects = [ticket for ticket in tickets if ticket.kind == "redirect"]
        if not redirects:
            raise ReturnFault("no_state" if tickets else _missing(returned))
        now = self._settings.clock()
        usable = [ticket for ticket in redirects if not expired(ticket, at=now)]
        if not usable:
            raise ReturnFault("expired")
        return self._bound(_of_login(usable, signed_in), kind="redirect", flow_hash=None)

    def _by_login(
        self, request: CallbackRequest, *, tickets: Sequence[Ticket], signed_in: SignedIn
    ) -> Binding:
        if not signed_in:
            raise ReturnFault("signed_out")
        kind = self._settings.flow
        self._refuse_cross_site(request, kind=kind)
        now = self._settings.clock()
        mine = [
            ticket
            for ticket in tickets
            if ticket.kind == kind
            and ticket.customer_id in signed_in
            and not expired(ticket, at=now)
        ]
        return self._bound(mine, kind=kind, flow_hash=None, logins=signed_in)

    def _bound(
        self,
        tickets: Sequence[Ticket],
        *,
        kind: FlowKind,
        flow_hash: bytes | None,
        logins: frozenset[str] = frozenset(),
    ) -> Binding:
        flows = [LiveFlow(ticket=ticket, key=self._flow_hash(ticket)) for ticket in tickets]
        live = tuple(flow for flow in flows if not flow.ticket.spent)
        names = [(flow.key, flow.ticket.customer_id) for flow in flows]
        names += [(self._hash("customer", each), each) for each in sorted(logins)]
        return Binding(
            kind=kind,
            live=live,
            customers=logins or frozenset(flow.ticket.customer_id for flow in live),
            names=tuple(names),
            flow_hash=flow_hash,
            return_to=tickets[0].return_to if tickets else self._settings.return_to,
        )

    def _refuse_cross_site(self, request: CallbackRequest, *, kind: FlowKind | None) -> None:
        # A GET of the redirect flow comes from Finch's site by nature; all else is our own page's.
        ours_alone = request.method == "POST" or kind == "embedded"
        if request.headers.get("Sec-Fetch-Mode") == "no-cors":
            # An image or a form's target of some page: nobody would ever see the answer.
            raise ReturnFault("cross_site")
        ours = request.same_origin(self._settings.origin)
        if ours_alone and not (ours or request.from_page_of(self._settings.spa_origins)):
            raise ReturnFault("cross_site")


def _of_login(tickets: Sequence[Ticket], signed_in: SignedIn) -> list[Ticket]:
    """The tickets that the signed-in customer may use; all, where nobody asked who that is."""
    if signed_in is None:
        return list(tickets)
    if not signed_in:
        raise ReturnFault("signed_out")
    mine = [ticket for ticket in tickets if ticket.customer_id in signed_in]
    if not mine:
        raise ReturnFault("other_customer")
    return mine


def _missing(returned: CallbackParams) -> str:
    return "unsolicited" if returned.code is None else "no_ticket"
