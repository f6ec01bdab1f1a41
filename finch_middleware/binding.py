"""
Which customer does a callback belong to? The ticket decides, or the signed-in customer.

The callback request itself decides nothing: an attacker can make any browser send any of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finch_middleware.attempts import End, places
from finch_middleware.config.customers import customer_ids, signed_in_customer
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.errors import ReturnFault
from finch_middleware.tickets import Ticket
from finch_middleware.web.request import CallbackParams, CallbackRequest

#: The customers that the request's login may act for; empty: signed out; None: not asked.
SignedIn = frozenset[str] | None

#: How far the clocks of two servers may differ before a ticket counts as expired.
SKEW = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """
    What a callback is bound to, decided before its code is looked at.

    Attributes:
        redirect_uri: The one that opened Connect, for the exchange; None in the embedded flow.
        bound_to: Keyed hash of each flow and customer that the request brought.
        places: Where the code may be claimed: of the flow that a state named, its hash; without a
            state, all places of each live flow; empty if only a login decides.
        ends: By customer whose code it may be. Empty: it can only repeat an earlier callback.
        tickets: By customer, the flow that a code of theirs ends: the newest.
        return_to: Where the person is sent afterwards, until the customer is known.
    """

    redirect_uri: str | None
    bound_to: tuple[bytes, ...]
    places: tuple[bytes, ...]
    ends: Mapping[str, End]
    tickets: Mapping[str, Ticket]
    return_to: str


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
        flow_id = returned.flow_id
        named = of_flow(tickets, flow_id) if flow_id is not None else None
        if named is None and self._settings.opened_by == "application":
            return self._by_login(request, tickets=tickets, signed_in=signed_in)
        if returned.foreign_state:
            raise ReturnFault("state_mismatch")
        if flow_id is None:
            return self._by_browser(returned, tickets=tickets, signed_in=signed_in)
        if named is None:
            raise ReturnFault("state_mismatch" if tickets else _missing(returned))
        return self._by_state(request, named, signed_in=signed_in)

    def _by_state(
        self, request: CallbackRequest, ticket: Ticket, *, signed_in: SignedIn
    ) -> Binding:
        """*ticket*: of the flow that the state names."""
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
        hashes = [(each, self._hash("flow", each.flow_id)) for each in tickets]
        live = [(ticket, flow_hash) for ticket, flow_hash in hashes if not ticket.spent]
        # The newest come first, and the last of a customer's stays in the dictionary.
        newest = {ticket.customer_id: (ticket, flow_hash) for ticket, flow_hash in reversed(live)}
        owners = {flow_hash: ticket.customer_id for ticket, flow_hash in hashes}
        owners |= {self._hash("customer", each): each for each in sorted(logins)}
        return_to = tickets[0].return_to if tickets else self._settings.return_to

        ends: dict[str, End] = {}
        for customer in sorted(logins or newest):
            ticket, flow_hash = newest.get(customer, (None, None))
            ends[customer] = End(
                flow_hash=flow_hash,
                bound_to=tuple(each for each, owner in owners.items() if owner == customer),
                return_to=ticket.return_to if ticket else return_to,
            )
        # Without a ticket the application opened Connect, with the configured address.
        configured = self._settings.redirect_uri if self._settings.flow == "redirect" else None
        return Binding(
            redirect_uri=live[0][0].redirect_uri if live else configured,
            bound_to=tuple(owners),
            places=tuple(place for _, flow_hash in live for place in places_of(flow_hash)),
            ends=ends,
            tickets={customer: ticket for customer, (ticket, _) in newest.items()},
            return_to=return_to,
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


def of_flow(tickets: Sequence[Ticket], flow_id: str) -> Ticket | None:
    """The ticket of this flow. Compares all of them, in constant time each."""
    found = [each for each in tickets if hmac.compare_digest(each.flow_id, flow_id)]
    return found[0] if found else None


def expired(ticket: Ticket, *, at: datetime) -> bool:
    """Whether it has expired, whatever server's clock is used."""
    return at > ticket.expires_at + SKEW


def _missing(returned: CallbackParams) -> str:
    return "unsolicited" if returned.code is None else "no_ticket"
