"""
Opens Finch Connect: checks, a session or a re-authentication, and the flow's ticket.

At the end of the file is the page with a button for it.
"""

from __future__ import annotations

import functools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from finch_middleware.config.customers import (
    Customer,
    customer_ids,
    require_text,
    signed_in_customer,
)
from finch_middleware.config.products import fault_of_products
from finch_middleware.config.settings import FlowKind, Settings
from finch_middleware.config.urls import check_return_to, parts_at, warn_of_prefix
from finch_middleware.errors import (
    AlreadyConnected,
    FinchError,
    FinchRefused,
    FinchUnavailable,
    ReturnFault,
    SchemaMismatch,
    Unavailable,
    UnknownConnection,
    UsageError,
)
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.hooks.events import Events
from finch_middleware.outcomes import Response
from finch_middleware.secret import Secret
from finch_middleware.tickets import Ticket, Tickets, check_customer_id, flow_id_of, new_state
from finch_middleware.web.request import CallbackRequest, Visit

if TYPE_CHECKING:
    from finch_middleware.connections import Connections
    from finch_middleware.crypto.opened import Connection
    from finch_middleware.finch.client import FinchClient
    from finch_middleware.operations.recovery import Recovery
    from finch_middleware.web.pages import At, Pages

SESSION_DEADLINE = timedelta(seconds=10)
NAME_LIMIT = 255
# Finch: minutes_to_expire is 1 to 129600.
_LIFE_LIMIT = timedelta(minutes=129_600)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """
    The arguments of `FinchConnect.begin`.

    Attributes:
        invited: An invitation opens it, for a person who need not be signed in.
    """

    customer_id: str
    customer_name: str = ""
    connection_id: str | None = None
    return_to: str = "/"
    flow: FlowKind = "redirect"
    products: Sequence[str] | None = None
    customer_email: str | None = None
    provider: str | None = None
    manual: bool | None = None
    expires_in: timedelta = timedelta(hours=1)
    when_connected: Literal["reauthenticate", "raise"] = "reauthenticate"
    session: ConnectSession | None = None
    invited: bool = False

    def checked(self, settings: Settings) -> Opening:
        """This opening, if it is valid; a UsageError names what is not."""
        check_customer_id(self.customer_id)
        name = self.customer_name
        if self.connection_id is None:
            if not isinstance(name, str) or not 1 <= len(name) <= NAME_LIMIT:
                raise UsageError(f"customer_name must have 1 to {NAME_LIMIT} characters")
        else:
            require_text(connection_id=self.connection_id)
            if self.session or self.provider:
                raise UsageError("connection_id cannot be combined with session or provider")
        if self.flow not in ("redirect", "embedded"):
            raise UsageError("flow must be 'redirect' or 'embedded'")
        asked = None if settings.unknown_products else fault_of_products(self.products or ())
        if asked:
            raise UsageError(f"products: {asked}")
        if self.when_connected not in ("reauthenticate", "raise"):
            raise UsageError("when_connected must be 'reauthenticate' or 'raise'")
        life = self.expires_in
        if not (isinstance(life, timedelta) and _MINUTE <= life <= _LIFE_LIMIT):
            raise UsageError("expires_in must be a timedelta of one minute to 90 days")
        check_return_to(self.return_to, spa_origins=settings.spa_origins)
        # The message does not repeat the address: it opens the session.
        if self.session and not parts_at(self.session.connect_url, settings.connect_origin):
            raise UsageError(f"the connect_url of session must lead to {settings.connect_origin}")
        return self

    def session_fields(
        self, settings: Settings, *, connection_id: str | None = None, products: Sequence[str] = ()
    ) -> dict[str, object]:
        """
        The body of ``POST /connect/sessions``.

        With the *connection_id* to renew, and its own *products*, that of ``…/reauthenticate``.
        """
        fields: dict[str, object] = {
            "products": list(self.products or products or settings.products),
            "minutes_to_expire": math.ceil(self.expires_in / _MINUTE),
        }
        # Finch refuses an embedded flow's code if a redirect_uri was sent.
        if self.flow == "redirect":
            fields["redirect_uri"] = settings.redirect_uri
        if connection_id is not None:
            return {"connection_id": connection_id, **fields}
        integration = {"provider": self.provider, "auth_method": None} if self.provider else None
        optional = {
            "customer_email": self.customer_email,
            "integration": integration,
            "manual": self.manual,
            "sandbox": settings.sandbox,
        }
        fields |= {name: value for name, value in optional.items() if value is not None}
        return {"customer_id": self.customer_id, "customer_name": self.customer_name, **fields}


@dataclass(kw_only=True, eq=False, repr=False)
class Begin:
    """Opens flows. Thread-safe; one for the life of the process."""

    settings: Settings
    client: FinchClient
    tickets: Tickets
    recovery: Recovery
    connections: Connections
    events: Events
    pages: Pages

    def open(self, opening: Opening, *, request: CallbackRequest) -> Response:
        """
        The response that opens Finch Connect, with the ticket that binds the callback to a browser.

        Raises what `FinchConnect.begin` states; the person is then not sent anywhere.
        """
        prefix = str(request.environ.get("SCRIPT_NAME", ""))
        warn_of_prefix(prefix, callback_path=self.settings.callback_path)
        opening.checked(self.settings)
        try:
            return self._open(opening, request)
        except (Unavailable, FinchRefused) as fault:
            at: At = "invitation" if opening.invited else "begin"
            self.report(fault, request, return_to=opening.return_to, at=at)
            raise

    def _open(self, opening: Opening, request: CallbackRequest) -> Response:
        settings, now, state = self.settings, self.settings.clock(), new_state()
        # A person must not type a payroll password for a token that could not be kept.
        self.recovery.prove_ready()
        session = opening.session or self._session(opening)
        self.events.report(
            "finch.session.opened",
            logging.INFO,
            customer_ids=(opening.customer_id,),
            request_id=session.request_id,
        )
        location = connect_location(session, state, connect_origin=settings.connect_origin)
        ticket = Ticket(
            flow_id=flow_id_of(state.reveal()),
            customer_id=opening.customer_id,
            return_to=check_return_to(opening.return_to, spa_origins=settings.spa_origins),
            redirect_uri=settings.redirect_uri if opening.flow == "redirect" else None,
            issued_at=now,
            expires_at=now + opening.expires_in,
            invited=opening.invited,
        )
        cookie = self.tickets.cookie(ticket, at=now)
        surplus = self.tickets.surplus(request.cookies(joined=True), new=cookie)
        return self.pages.open_connect(
            session,
            location=location if opening.flow == "redirect" else None,
            state=state.reveal(),
            cookies=(*surplus, cookie),
        )

    def report(
        self, fault: FinchError, request: CallbackRequest, *, return_to: str, at: At
    ) -> Callable[[], Response]:
        """Log *fault*; what makes the person's page, which has the same reference."""
        retry_after = getattr(fault, "retry_after", None)
        failed = Visit(return_to=return_to).failed(fault.page_reason, retry_after=retry_after)
        self.events.report(
            "finch.begin.failed",
            logging.ERROR,
            reference=failed.reference,
            # Only an operator can fix the others, and needs their code.
            reason=failed.reason if isinstance(fault, Unavailable) else fault.code,
            request_id=fault.request_id,
        )
        if isinstance(fault, FinchRefused):
            fault.reference = failed.reference
        fault.make_page = functools.partial(self.pages.respond, failed, request, at=at)
        return fault.make_page

    def products_asked(self, opening: Opening) -> Sequence[str]:
        """What Finch Connect will ask this person for; UnknownConnection as `begin`."""
        stored = self.connections.for_customer(opening.customer_id)
        known = _to_renew(opening, stored)
        return opening.products or _own_products(known) or self.settings.products

    def _session(self, opening: Opening) -> ConnectSession:
        stored = self.connections.for_customer(opening.customer_id)
        known = _to_renew(opening, stored)
        if known is not None:
            if opening.connection_id is None and opening.when_connected == "raise":
                raise AlreadyConnected(connection_id=known.connection_id)
            try:
                return self._renewal(opening, known.connection_id, known=known)
            except FinchRefused:
                # Finch may have ended it, and then a new session connects the customer again.
                if opening.connection_id is not None:
                    raise
        fields = opening.session_fields(self.settings)
        try:
            return self.client.create_session(fields, within=SESSION_DEADLINE)
        except AlreadyConnected as fault:
            connection_id = fault.connection_id
            known = next((one for one in stored if one.connection_id == connection_id), None)
            other_provider = known and opening.provider not in (None, known.provider_id)
            if opening.when_connected == "raise" or connection_id is None or other_provider:
                raise
        return self._renewal(opening, connection_id, known=known)

    def _renewal(
        self, opening: Opening, connection_id: str, *, known: Connection | None
    ) -> ConnectSession:
        """The session in which a person signs in again to *connection_id*."""
        own = _own_products(known)
        fields = opening.session_fields(self.settings, connection_id=connection_id, products=own)
        session = self.client.reauthenticate(fields, within=SESSION_DEADLINE)
        self.events.report(
            "finch.session.reauthenticates",
            logging.INFO,
            customer_ids=(opening.customer_id,),
            connection_id=connection_id,
            request_id=session.request_id,
        )
        return session


def _to_renew(opening: Opening, stored: Sequence[Connection]) -> Connection | None:
    """The stored connection that *opening* renews: the named one, or the only one it can mean."""
    if opening.connection_id is not None:
        for each in stored:
            if each.connection_id == opening.connection_id:
                return each
        raise UnknownConnection("this customer has no connection with this connection_id")
    meant = [
        each
        for each in stored
        if each.status != "disconnected" and opening.provider in (None, each.provider_id)
    ]
    return meant[0] if len(meant) == 1 else None


def _own_products(known: Connection | None) -> list[str]:
    # Finch's older grants have products such as "employer:company".
    return [each.rpartition(":")[2] for each in known.products] if known else []


def connect_location(session: ConnectSession, state: Secret, *, connect_origin: str) -> str:
    """The address that opens Connect with our state; it must lead to *connect_origin*."""
    parts = parts_at(session.connect_url, connect_origin)
    if parts is None:
        raise FinchUnavailable("bad_response", request_id=session.request_id)
    query = f"{parts.query}&state={state.reveal()}".lstrip("&")
    return parts._replace(query=query, fragment="").geturl()


@dataclass(kw_only=True, eq=False, repr=False)
class OpeningPage(ABC):
    """A page of ours with one button: its GET changes nothing, its POST opens Finch Connect."""

    at: ClassVar[At]
    begin: Begin

    def respond(self, request: CallbackRequest) -> Response:
        """
        The page for a GET; for a POST of this very page, the redirect to Finch Connect.

        Whoever may not begin, or cannot now, gets a page without the button.
        """
        try:
            if request.method in ("GET", "HEAD"):
                return self.show(request)
            self._require_own_page(request)
            return self.begin.open(self.opening(request), request=request)
        except ReturnFault as fault:
            return self.reject(request, reason=fault.reason)
        except (AlreadyConnected, FinchRefused, SchemaMismatch, Unavailable) as fault:
            make_page = fault.make_page or self.begin.report(
                fault, request, return_to=self.begin.settings.return_to, at=self.at
            )
            return make_page()

    @abstractmethod
    def show(self, request: CallbackRequest) -> Response:
        """The page with the button. Changes nothing, and does not call Finch."""

    @abstractmethod
    def opening(self, request: CallbackRequest) -> Opening:
        """What this person may open."""

    def _require_own_page(self, request: CallbackRequest) -> None:
        if request.method != "POST":
            raise ReturnFault("method")
        settings = self.begin.settings
        # "none" is the person's own doing: an address typed, a page restored.
        typed = request.headers.get("Sec-Fetch-Site") == "none"
        own_page = request.same_origin(settings.origin)
        if not (typed or own_page or request.from_page_of(settings.spa_origins)):
            raise ReturnFault("cross_site")

    def reject(self, request: CallbackRequest, *, reason: str) -> Response:
        """The page of a request that may not begin."""
        invalid = Visit(return_to=self.begin.settings.return_to).invalid(reason)
        # Opening the page signed out is everyday traffic.
        everyday = reason == "method" or request.method in ("GET", "HEAD")
        level = logging.DEBUG if everyday else logging.WARNING
        self.begin.events.report(
            "finch.begin.rejected", level, reference=invalid.reference, reason=reason
        )
        return self.begin.pages.respond(invalid, request, at=self.at)


class BeginPage(OpeningPage):
    """Shows the button to a signed-in person, and begins; `customer_of` names them."""

    at = "begin"

    def show(self, request: CallbackRequest) -> Response:
        self._customer(request)
        return self.begin.pages.begin()

    def opening(self, request: CallbackRequest) -> Opening:
        customer = self._customer(request)
        return Opening(
            customer_id=str(customer.id),
            customer_name=customer.name,
            customer_email=customer.email,
            return_to=self.begin.settings.return_to,
            flow="embedded" if request.from_script else "redirect",
        )

    def _customer(self, request: CallbackRequest) -> Customer:
        customer_of = self.begin.settings.customer_of
        if customer_of is None:
            raise UsageError("begin_page needs the option customer_of, to know who is signed in")
        customer = signed_in_customer(customer_of, request)
        if not customer_ids(customer):
            raise ReturnFault("signed_out")
        if not isinstance(customer, Customer):
            raise UsageError(
                "at begin_path customer_of must return one Customer(id=..., name=...), or None; "
                "if a login has several customers, call begin in a view"
            )
        return customer
