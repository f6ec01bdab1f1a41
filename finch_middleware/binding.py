"""
Which customer does a callback belong to? The ticket decides, or the signed-in customer.

The callback request itself decides nothing: an attacker can make any browser send any of it.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finch_middleware.attempts import Attempt, places
from finch_middleware.config.customers import customer_ids, signed_in_customer
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.errors import ReturnFault
from finch_middleware.secret import Secret
from finch_middleware.tickets import Ticket
from finch_middleware.web.params import CallbackParams
from finch_middleware.web.request import CallbackRequest

#: The customers that the request's login may act for; empty: signed out; None: not asked.
SignedIn = frozenset[str] | None

#: How far the clocks of two servers may differ before a ticket counts as expired.
SKEW = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlow:
    """A flow of this browser that a code may end, and the hash that names it in storage."""

    ticket: Ticket
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """
    What a callback is bound to, decided before its code is looked at.

    Attributes:
        redirect_uri: The one that opened Connect, for the exchange; None in the embedded flow.
        live: Flows that the code may end, the newest first.
        customers: Whose code it may be. Empty: it can only repeat an earlier callback.
        owners: Keyed hash of each flow and customer that the request brought, and its customer.
        places: Where the code may be claimed: of the flow that a state named, its hash; without a
            state, all places of each live flow; empty if only a login decides.
        return_to: Where the person is sent afterwards, until the customer is known.
    """

    redirect_uri: str | None
    live: tuple[LiveFlow, ...]
    customers: frozenset[str]
    owners: Mapping[bytes, str]
    places: tuple[bytes, ...]
    return_to: str

    def ended_by(self, customer_id: str) -> LiveFlow | None:
        """The flow that a code of this customer ends: the newest of theirs."""
        return next((flow for flow in self.live if flow.ticket.customer_id == customer_id), None)

    def narrow(self, attempt: Attempt, customer_id: str) -> Attempt:
        """*attempt*, bound to the flow and the hashes of one customer."""
        flow = self.ended_by(customer_id)
        return dataclasses.replace(
            attempt,
            flow_hash=flow.hash if flow else None,
            bound_to=tuple(each for each, owner in self.owners.items() if owner == customer_id),
            return_to=flow.ticket.return_to if flow else self.return_to,
        )


class Binder:
    """Finds the binding of a callback among the browser's tickets and its login."""

    def __init__(self, *, settings: Settings, keyed_hash: KeyedHash) -> None:
        self._settings = settings
        self._origin = settings.origin
        self._hash = keyed_hash

    def admit(self, request: CallbackRequest, *, tickets: Sequence[Ticket]) -> None:
        """
        Refuse a POST that no body could bind, before a byte of its body is read.

        Whoever holds half a body back would otherwise keep a thread of the server.

        Raises:
            ReturnFault: It comes from a foreign page, or brings no ticket where one is needed.
        """
        self._refuse_cross_site(request)
        if not tickets and self._settings.opened_by == "begin":
            raise ReturnFault("no_ticket")

    def bind(
        self,
        request: CallbackRequest,
        returned: CallbackParams,
        *,
        tickets: Sequence[Ticket],
        signed_in: SignedIn,
    ) -> Binding:
        """
        The binding of *returned*. Without *signed_in* the option `customer_of` is asked.

        Raises:
            ReturnFault: There is none; the reason names what was missing or did not match.
        """
        if signed_in is None and self._settings.customer_of is not None:
            signed_in = customer_ids(signed_in_customer(self._settings.customer_of, request))
        self._refuse_cross_site(request)
        if self._settings.opened_by == "application" and not self._names_one(returned, tickets):
            return self._by_login(request, tickets=tickets, signed_in=signed_in)
        if returned.foreign_state:
            raise ReturnFault("state_mismatch")
        if returned.state is not None:
            return self._by_state(request, returned, tickets=tickets, signed_in=signed_in)
        return self._by_browser(returned, tickets=tickets, signed_in=signed_in)

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
        self._refuse_cross_site(request, embedded=ticket.redirect_uri is None)
        mine = _of_login([ticket], signed_in)
        return self._binding(mine, places_of=lambda flow_hash: (flow_hash,))

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
        return self._binding(_of_login(usable, signed_in), places_of=places)

    def _by_login(
        self, request: CallbackRequest, *, tickets: Sequence[Ticket], signed_in: SignedIn
    ) -> Binding:
        if not signed_in:
            raise ReturnFault("signed_out")
        kind = self._settings.flow
        self._refuse_cross_site(request, embedded=kind == "embedded")
        now = self._settings.clock()
        mine = [
            ticket
            for ticket in tickets
            if ticket.kind == kind
            and ticket.customer_id in signed_in
            and not expired(ticket, at=now)
        ]
        return self._binding(mine, places_of=lambda flow_hash: (), logins=signed_in)

    def _binding(
        self,
        tickets: Sequence[Ticket],
        *,
        places_of: Callable[[bytes], tuple[bytes, ...]],
        logins: frozenset[str] = frozenset(),
    ) -> Binding:
        flows = [LiveFlow(ticket=each, hash=self._hash("flow", each.flow_id)) for each in tickets]
        live = tuple(flow for flow in flows if not flow.ticket.spent)
        owners = {flow.hash: flow.ticket.customer_id for flow in flows}
        owners |= {self._hash("customer", each): each for each in sorted(logins)}
        # Without a ticket the application opened Connect, with the configured address.
        configured = self._settings.redirect_uri if self._settings.flow == "redirect" else None
        return Binding(
            redirect_uri=live[0].ticket.redirect_uri if live else configured,
            live=live,
            customers=logins or frozenset(flow.ticket.customer_id for flow in live),
            owners=owners,
            places=tuple(place for flow in live for place in places_of(flow.hash)),
            return_to=tickets[0].return_to if tickets else self._settings.return_to,
        )

    def _refuse_cross_site(self, request: CallbackRequest, *, embedded: bool = False) -> None:
        # A GET of the redirect flow comes from Finch's site; all else must come from our own page.
        own_page_only = request.method == "POST" or embedded
        if request.headers.get("Sec-Fetch-Mode") == "no-cors":
            # An image on some page, for instance: no person would ever see the response.
            raise ReturnFault("cross_site")
        if own_page_only and not (
            request.same_origin(self._origin) or request.from_page_of(self._settings.spa_origins)
        ):
            raise ReturnFault("cross_site")


def _of_login(tickets: Sequence[Ticket], signed_in: SignedIn) -> list[Ticket]:
    """
    The tickets that the signed-in customer may use; all, where the login was not asked.

    Whoever is signed out may use those of invitations: they are for people without a login.
    """
    if signed_in is None:
        return list(tickets)
    mine = [
        each
        for each in tickets
        if each.customer_id in signed_in or (each.invited and not signed_in)
    ]
    if not mine:
        raise ReturnFault("other_customer" if signed_in else "signed_out")
    return mine


def with_state(tickets: Sequence[Ticket], state: Secret) -> Ticket | None:
    """The ticket of this state. Compares all of them, in constant time each."""
    given = state.reveal().encode()
    found = [t for t in tickets if hmac.compare_digest(t.state.reveal().encode(), given)]
    return found[0] if found else None


def expired(ticket: Ticket, *, at: datetime) -> bool:
    """Whether it has expired, whatever server's clock is used."""
    return at > ticket.expires_at + SKEW


def _missing(returned: CallbackParams) -> str:
    return "unsolicited" if returned.code is None else "no_ticket"
