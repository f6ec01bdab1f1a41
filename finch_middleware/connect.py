"""
FinchConnect, the component an application holds. It knows no WSGI.

It passes calls on: `assembly` makes the pieces, and `begin` and `callback` tell the story.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Unpack

from finch_middleware.config.customers import Customers, customer_ids
from finch_middleware.config.options import Options
from finch_middleware.config.reading import Checks, read_settings, take_options
from finch_middleware.config.settings import FlowKind
from finch_middleware.outcomes import Outcome, Response
from finch_middleware.web.body import BODY_LIMIT_BYTES
from finch_middleware.web.html import template_faults
from finch_middleware.web.pages import allow_origins
from finch_middleware.web.request import CallbackRequest
from finch_middleware.web.texts import find_faults

if TYPE_CHECKING:
    from finch_middleware.finch.responses import ConnectSession
    from finch_middleware.operations.rotation import Rotation


CHECKS: Checks = {"texts": find_faults, "templates": template_faults}


class _NotGiven:
    """The default of ``customer_id=``; None means that the person is signed out."""


NOT_GIVEN = _NotGiven()


class FinchConnect:
    """
    Connects employers through Finch: opens Finch Connect, finishes its return, keeps the token.

    Make one for the life of the process, before or after a fork; it is thread-safe and never
    closed. Construction reads nothing but the files of `templates` and `ca_bundle`. It loads
    every module that a request needs, so a server that preloads the application has all of them.

    Attributes:
        connections: The stored connections: `for_customer`, `get`, `refresh`, `disconnect`.
        recovery: For a timer or an operator: `sweep()`, `drain()`, `complete()`.
        storage, spool, vault: The pieces that operators' commands inspect.
        settings: The options as they were read, such as `client_id` and `callback_path`.
        paths: The handler of the callback, `begin_path`, `invite_path` and `webhook_path`.

    Raises:
        ConfigurationError: Lists everything that is wrong, and how to fix it.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        # Not at the top: whoever only imports this name does not wait for those libraries.
        from finch_middleware.assembly import Assembly
        from finch_middleware.begin import BeginPage
        from finch_middleware.invitations import Invitations

        settings = read_settings(options, checks=CHECKS)
        pieces = Assembly(settings)
        self.settings = settings
        self.vault = pieces.vault
        self.storage = pieces.storage
        self.spool = pieces.spool
        self.connections = pieces.connections
        self.recovery = pieces.recovery
        self._begin = pieces.begin
        self._callback = pieces.callback
        self._webhooks = pieces.webhooks
        self._begin_page = BeginPage(begin=pieces.begin)
        self._invitations = Invitations(begin=pieces.begin, vault=pieces.vault)
        handlers: dict[str | None, Callable[[object], Response]] = {
            settings.callback_path: self._callback.receive,
            settings.begin_path: self.begin_page,
            settings.invite_path: self.invite_page,
            settings.webhook_path: self.webhook,
        }
        self.paths = {path: each for path, each in handlers.items() if path is not None}

    @property
    def rotation(self) -> Rotation:
        """For an operator: which keys are in use, and re-sealing under the current one."""
        # No request needs it.
        from finch_middleware.operations.rotation import Rotation

        return Rotation(
            client_id=self.settings.client_id,
            vault=self.vault,
            storage=self.storage,
            spool=self.spool,
        )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[Options]
    ) -> FinchConnect:
        """
        The component that the ``FINCH_…`` variables describe; *overrides* come first.

        Raises as the constructor.
        """
        # Taken out of this frame: a traceback with locals would show the client secret and the key.
        given = [environ]
        del environ
        return cls(**take_options(given, overrides))

    def begin(
        self,
        *,
        customer_id: str,
        customer_name: str = "",
        connection_id: str | None = None,
        request: object | None = None,
        return_to: str = "/",
        flow: FlowKind = "redirect",
        products: Collection[str] | None = None,
        customer_email: str | None = None,
        provider: str | None = None,
        manual: bool | None = None,
        expires_in: timedelta = timedelta(hours=1),
        when_connected: Literal["reauthenticate", "raise"] = "reauthenticate",
        session: ConnectSession | None = None,
    ) -> Response:
        """
        The response that opens Finch Connect: a redirect, or JSON for Finch's SDK.

        Call it in a view behind the application's own login and CSRF protection, on POST.
        *customer_id* must come from the login, never from the request: it is what the return
        is compared with. *request* lets old tickets of this browser be dropped. *expires_in*
        is the life of the Connect session and of the ticket. Nothing is written to storage.

        *connection_id* names the stored connection whose person signs in again; its new token
        replaces the old one. Without it the customer's only connection is renewed, and a
        customer without one, or with another *provider*, gets a new connection.

        Raises:
            UsageError: An argument is out of bounds; *return_to* must be a local path.
            UnknownConnection: This customer has no connection *connection_id*.
            AlreadyConnected: With ``when_connected="raise"``, or if Finch names the connection
                of another provider than *provider*.
            SchemaMismatch: The storage's tables are missing or old; the message names the command.
            FinchRefused: Finch does not take these products, this redirect_uri or customer. It
                is logged; `str(error)` names what to look at.
            FinchUnavailable, StorageUnavailable, SpoolUnavailable, KeyUnavailable: Something that
                a connection needs is unavailable; `response()` is a page for the person.
        """
        from finch_middleware.begin import Opening

        opening = Opening(
            customer_id=customer_id,
            customer_name=customer_name,
            connection_id=connection_id,
            return_to=return_to,
            flow=flow,
            products=tuple(products) if products is not None else None,
            customer_email=customer_email,
            provider=provider,
            manual=manual,
            expires_in=expires_in,
            when_connected=when_connected,
            session=session,
        )
        understood = CallbackRequest() if request is None else CallbackRequest.of(request)
        return self._begin.open(opening, request=understood)

    def finish(self, request: object, *, customer_id: Customers | _NotGiven = NOT_GIVEN) -> Outcome:
        """
        How the callback *request* ended. A code that Finch may have accepted is never sent again.

        *customer_id*: the signed-in customer, or all that this login manages, or None if the
        person is signed out. Without it the option `customer_of` is asked.
        """
        signed_in = _signed_in(customer_id)
        return self._callback.finish(CallbackRequest.of(request), signed_in=signed_in)

    def respond(self, outcome: Outcome, request: object) -> Response:
        """The response for *outcome*: the application's `render`, or else our pages."""
        return self._callback.respond(outcome, CallbackRequest.of(request))

    def callback(
        self, request: object, *, customer_id: Customers | _NotGiven = NOT_GIVEN
    ) -> Response:
        """The whole callback: `finish`, then `respond`. For a view, or for the middleware."""
        return self._callback.receive(request, signed_in=_signed_in(customer_id))

    def begin_page(self, request: object) -> Response:
        """
        The whole begin path: a page with a button, and for its POST the redirect to Connect.

        `customer_of` names the customer. A browser goes to Finch; a script gets JSON for the SDK.

        Raises:
            UsageError: `customer_of` returned something else than one Customer or None.
        """
        understood = CallbackRequest.of(request)
        response = self._begin_page.respond(understood)
        origins = self.settings.spa_origins
        return allow_origins(response, understood, spa_origins=origins) if origins else response

    def invitation_url(
        self,
        *,
        customer_id: str,
        customer_name: str,
        valid_for: timedelta = timedelta(days=14),
        single_use: bool = True,
        connection_id: str | None = None,
        return_to: str | None = None,
        products: Collection[str] | None = None,
        customer_email: str | None = None,
        provider: str | None = None,
        manual: bool | None = None,
    ) -> str:
        """
        A link to `invite_path` for the person who can open the payroll, in any browser.

        Its page shows the customer, the application and the products; only its button begins, as
        `begin` would with these arguments. The person need not be signed in: whoever has the link
        can connect a payroll as this customer's until it expires, after *valid_for* (one minute to
        90 days), so send it to that person alone. Nothing is stored, and Finch is not called.

        With *single_use* the link ends as soon as the customer has a connection that was obtained
        after the link was made, by whichever way: of *provider*, or *connection_id*, where given.
        Without *return_to* the person ends on a page of ours.

        Raises:
            UsageError: There is no `invite_path`, an argument is out of bounds, or the link would
                have over 2,000 characters.
            UnknownConnection: This customer has no connection *connection_id*.
            StorageUnavailable, KeyUnavailable: Try again.
        """
        from finch_middleware.begin import Opening

        opening = Opening(
            customer_id=customer_id,
            customer_name=customer_name,
            connection_id=connection_id,
            return_to=return_to or self.settings.href(self.settings.invite_path) or "/",
            products=tuple(products) if products is not None else None,
            customer_email=customer_email,
            provider=provider,
            manual=manual,
        )
        return self._invitations.url(opening, valid_for=valid_for, single_use=single_use)

    def invite_page(self, request: object) -> Response:
        """
        The whole invite path: an invitation's page, and for its POST the redirect to Connect.

        A person who is signed in as another customer is asked to sign out first.
        """
        return self._invitations.respond(CallbackRequest.of(request))

    def webhook(self, request: object) -> Response:
        """
        The response to a delivery of Finch: for a view, or for the middleware.

        200: the event is durable. After any other status, Finch delivers it again.

        Raises:
            UsageError: The option `webhook_secrets` is missing.
        """
        understood = CallbackRequest.of(request)
        response = self._webhooks.respond(understood)
        understood.abandon_body()
        return response

    def body_limit_bytes(self, environ: Mapping[str, object]) -> int:
        """How much of this request's body an adapter may have to read first; 0: none of it."""
        request = CallbackRequest.of(environ)
        if environ["PATH_INFO"] == self.settings.webhook_path:
            return self._webhooks.body_limit_bytes(request)
        return BODY_LIMIT_BYTES if request.method == "POST" else 0


def _signed_in(customer_id: Customers | _NotGiven) -> frozenset[str] | None:
    return None if isinstance(customer_id, _NotGiven) else customer_ids(customer_id)
