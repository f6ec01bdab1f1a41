"""
Invites the person who can open the payroll, by a link that they may open weeks later.

The link is sealed, and nothing is written to storage: it holds what `begin` needs to know. Its page
shows who invites to what; only the button on it begins.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import timedelta

from finch_middleware.begin import Opening, OpeningPage
from finch_middleware.config.customers import customer_ids, require_text, signed_in_customer
from finch_middleware.crypto.vault import Vault, pack
from finch_middleware.errors import CannotOpen, ReturnFault, UnknownConnection, UsageError
from finch_middleware.outcomes import Response
from finch_middleware.web.request import CallbackRequest, parse_query

PARAMETER = "invitation"
LONGEST = timedelta(days=90)
#: A server such as gunicorn or uWSGI reads 4 KiB of a request's address, and mail programs less.
LINK_LIMIT_CHARACTERS = 2000
_SHORTEST = timedelta(minutes=1)

#: What the end of a flow adds to the address of the page, and its text.
_ENDS = {
    "connected": "invitation.connected",
    "finishing": "finishing.spooled",
    "declined": "declined",
}

_PLAIN = Opening(customer_id="")
_FIELDS = tuple(each.name for each in dataclasses.fields(Opening))


@dataclass(kw_only=True, eq=False, repr=False)
class Invitations(OpeningPage):
    """Makes links, and shows their page to whoever has one. They need not be signed in."""

    at = "invitation"
    vault: Vault

    def url(self, opening: Opening, *, valid_for: timedelta, single_use: bool) -> str:
        """
        The address of a new invitation, as `FinchConnect.invitation_url` states.

        What is sealed in it is short: the times, and the arguments that differ from the defaults.
        """
        page = self.begin.settings.href(self.begin.settings.invite_path)
        if page is None:
            raise UsageError("invitation_url needs the option invite_path")
        if not (isinstance(valid_for, timedelta) and _SHORTEST <= valid_for <= LONGEST):
            raise UsageError("valid_for must be a timedelta of one minute to 90 days")
        if not opening.customer_name:
            raise UsageError("customer_name must have 1 to 255 characters: the page shows it")
        require_text(customer_name=opening.customer_name)
        opening.checked(self.begin.settings)
        if opening.connection_id is not None:
            self.begin.products_asked(opening)
        now = self.begin.settings.clock()
        times = [each.timestamp() for each in (now, now + valid_for)]
        given = {name: getattr(opening, name) for name in _FIELDS}
        parts = {name: each for name, each in given.items() if each != getattr(_PLAIN, name)}
        text = json.dumps([*times, bool(single_use), parts], separators=(",", ":"))
        sealed = self.vault.seal(text, purpose="invitation", context=self._place)
        address = f"{self.begin.settings.origin}{page}?{PARAMETER}={sealed}"
        if len(address) > LINK_LIMIT_CHARACTERS:
            raise UsageError("the invitation is too long for a link: shorten customer_name")
        return address

    @property
    def _place(self) -> bytes:
        # At another origin the ticket would be set where the callback does not find it.
        return pack(self.begin.settings.origin)

    def respond(self, request: CallbackRequest) -> Response:
        """As `OpeningPage.respond`; for a connection that has ended, too, there is a page."""
        try:
            return super().respond(request)
        except UnknownConnection:
            return self.reject(request, reason="invitation_used")

    def show(self, request: CallbackRequest) -> Response:
        """The invitation's page; without a link, the end of a flow that this browser began."""
        query = self._query(request)
        end = _ENDS.get(query.get("finch", ""))
        if end and PARAMETER not in query and self._invited(request):
            return self.begin.pages.notice(end)
        opening = self.opening(request)
        return self.begin.pages.invitation(
            customer_name=opening.customer_name, products=self.begin.products_asked(opening)
        )

    def opening(self, request: CallbackRequest) -> Opening:
        """
        What the link of this request opens, if this person may use it.

        It is unreadable if it was altered, belongs to another client_id or origin, has a key that
        is no longer accepted, or if the options do not allow it any longer.
        """
        sealed = self._query(request).get(PARAMETER, "")
        try:
            text = self.vault.open(sealed, purpose="invitation", context=self._place)
            issued, expires, single_use, parts = json.loads(text)
            opening = Opening(**parts, invited=True).checked(self.begin.settings)
        except (CannotOpen, TypeError, ValueError):  # the latter two: made with other options
            raise ReturnFault("invitation_unreadable") from None
        if self.begin.settings.clock().timestamp() > expires:
            raise ReturnFault("invitation_expired")
        customer_of = self.begin.settings.customer_of
        login = customer_ids(signed_in_customer(customer_of, request)) if customer_of else ()
        if login and opening.customer_id not in login:
            raise ReturnFault("other_customer")
        if single_use and self._connected_since(issued, opening):
            raise ReturnFault("invitation_used")
        return opening

    def _connected_since(self, instant: float, opening: Opening) -> bool:
        """Whether what *opening* asks for was connected after that Unix time."""
        return any(
            each.obtained_at.timestamp() > instant
            and opening.provider in (None, each.provider_id)
            and opening.connection_id in (None, each.connection_id)
            for each in self.begin.connections.for_customer(opening.customer_id)
        )

    def _invited(self, request: CallbackRequest) -> bool:
        """Whether an invitation began a flow in this browser."""
        return any(each.invited for each in self.begin.tickets.found(request.cookies()))

    def _query(self, request: CallbackRequest) -> dict[str, str]:
        try:
            return parse_query(request, once=PARAMETER)
        except ReturnFault:
            raise ReturnFault("invitation_unreadable") from None
