"""
FinchConnect, the component an application holds. It knows no WSGI.

It passes calls on: `assembly` makes the pieces, and `begin` and `callback` tell the story.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Literal, Unpack, cast

from finch_middleware.assembly import assemble
from finch_middleware.begin import BeginPage, Opening
from finch_middleware.config.customers import Customers, customer_ids
from finch_middleware.config.options import FlowKind, Options, options_from_env
from finch_middleware.config.settings import Settings
from finch_middleware.errors import ConfigurationError, Unavailable
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.outcomes import Failed, Outcome, Response, Visit
from finch_middleware.storage.protocol import Storage
from finch_middleware.web.headers import with_cookies, with_cors
from finch_middleware.web.pages import Pages
from finch_middleware.web.request import CallbackRequest

_HOUR = timedelta(hours=1)


class _NobodyAsked:
    """The default of ``customer_id=``: None already means that nobody is signed in."""


NOBODY_ASKED = _NobodyAsked()


class FinchConnect:
    """
    Connects employers through Finch: opens Finch Connect, finishes its return, keeps the token.

    Make one for the life of the process, before or after a fork; it is thread-safe and never
    closed. Construction reads nothing but the files of `templates` and `ca_bundle`.

    Attributes:
        connections: The stored connections: `for_customer`, `get`, `refresh`, `disconnect`.
        recovery: For a timer or an operator: `sweep()`, `drain()`, `complete()`.
        rotation: For an operator: which keys are in use, and how to bring all under one.
        storage, spool, vault: What keeps the tokens and the keys in use, for operators' commands.
        client_id: Finch's id of this application.
        callback_path: The callback's path, as WSGI's PATH_INFO has it.
        paths: What answers each path that is ours: the callback, and the begin path if any.

    Raises:
        ConfigurationError: Lists everything that is wrong, each with its mend.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        settings, self._pages = _configured(options)
        pieces = assemble(settings)
        self.client_id = settings.client_id
        self.vault = pieces.vault
        self.storage = pieces.storage
        self.spool = pieces.spool
        self.connections = pieces.connections
        self.recovery = pieces.recovery
        self.rotation = pieces.rotation
        self.callback_path = settings.callback_path
        self._settings = settings
        self._events = pieces.events
        self._begin = pieces.begin
        self._callback = pieces.callback
        self._begin_page = BeginPage(
            settings=settings, pages=self._pages, events=pieces.events, begin=self.begin
        )
        self.paths: Mapping[str, Callable[[object], Response]] = {
            self.callback_path: self.callback,
            **({settings.begin_path: self.begin_page} if settings.begin_path else {}),
        }

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[Options]
    ) -> FinchConnect:
        """
        The component that the ``FINCH_…`` variables describe; *overrides* come first.

        Raises:
            ConfigurationError: As the constructor.
        """
        # Taken out of this frame: a traceback with locals would show the client secret and the key.
        given = [environ]
        del environ
        return cls(**_taken(given, overrides))

    def begin(
        self,
        *,
        customer_id: str,
        customer_name: str,
        request: object | None = None,
        return_to: str = "/",
        flow: FlowKind = "redirect",
        products: Collection[str] | None = None,
        customer_email: str | None = None,
        provider: str | None = None,
        manual: bool | None = None,
        expires_in: timedelta = _HOUR,
        when_connected: Literal["reauthenticate", "raise"] = "reauthenticate",
        session: ConnectSession | None = None,
    ) -> Response:
        """
        The answer that opens Finch Connect: a redirect, or JSON for Finch's SDK.

        Call it in a view behind the application's own login and CSRF protection, on POST.
        *customer_id* must come from the login, never from the request: it is what the return
        is compared with. *request* lets old tickets of this browser be dropped. *expires_in*
        is the life of the Connect session and of the ticket. Nothing is written to storage.

        Raises:
            UsageError: An argument is out of bounds; *return_to* must be a local path.
            AlreadyConnected: With ``when_connected="raise"``.
            SchemaMismatch: The storage's tables are missing or old; the message names the mend.
            FinchRefused: Finch does not take these products, this redirect_uri or customer.
            FinchUnavailable, StorageUnavailable, SpoolUnavailable, KeyUnavailable: Something that
                a connection needs is away; `response()` tells the person.
        """
        opening = Opening(
            customer_id=customer_id,
            customer_name=customer_name,
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
        understood = CallbackRequest.of(request) if request is not None else None
        try:
            opened = self._begin.open(opening, request=understood)
        except Unavailable as away:
            failed = self._away(away, return_to=return_to)
            request = understood or CallbackRequest()
            away.make_page = functools.partial(self._pages.respond, failed, request)
            raise
        return self._pages.open_connect(
            opened.session,
            location=opened.location,
            state=opened.state.reveal(),
            connect_origin=self._settings.connect_origin,
            cookies=opened.cookies,
        )

    def finish(
        self,
        request: object,
        *,
        customer_id: Customers | _NobodyAsked = NOBODY_ASKED,
    ) -> Outcome:
        """
        How the return that *request* brings has ended: the code is exchanged at most once.

        *customer_id*: the signed-in customer, or all that this login manages, or None for
        nobody. Without it `customer_of` is asked, where one is configured.
        """
        signed_in = None if isinstance(customer_id, _NobodyAsked) else customer_ids(customer_id)
        return self._callback.finish(CallbackRequest.of(request), signed_in=signed_in)

    def respond(self, outcome: Outcome, request: object) -> Response:
        """The answer to *outcome*: by the application's `render`, or else by our pages."""
        understood = CallbackRequest.of(request)
        answered = self._answered(outcome, understood)
        if answered is None:
            response = self._pages.respond(outcome, understood)
        else:
            response = with_cookies(answered, outcome.cookies)
        return with_cors(response, understood, spa_origins=self._settings.spa_origins)

    def callback(
        self,
        request: object,
        *,
        customer_id: Customers | _NobodyAsked = NOBODY_ASKED,
    ) -> Response:
        """The whole callback: `finish`, then `respond`. For a view, or for the middleware."""
        understood = CallbackRequest.of(request)
        return self.respond(self.finish(understood, customer_id=customer_id), understood)

    def begin_page(self, request: object) -> Response:
        """
        The whole begin path: a page with a button, and for a POST of ours the way into Connect.

        `customer_of` says for whom. A browser goes to Finch; a script gets JSON for Finch's SDK.

        Raises:
            UsageError: `customer_of` returned something else than one Customer or None.
        """
        understood = CallbackRequest.of(request)
        response = self._begin_page.respond(understood)
        return with_cors(response, understood, spa_origins=self._settings.spa_origins)

    def _answered(self, outcome: Outcome, request: CallbackRequest) -> Response | None:
        """The application's own answer, where it gives one."""
        if self._settings.render is None:
            return None
        try:
            answered = self._settings.render(outcome, request)
            if answered is not None and not isinstance(answered, Response):
                raise TypeError("render must return a werkzeug Response, or None")
            return answered
        except Exception:  # the application's own code; the code is spent, the person needs a page
            self._events.report(
                "finch.hook.failed", logging.ERROR, reference=outcome.reference, reason="render"
            )
            return None

    def _away(self, away: Unavailable, *, return_to: str) -> Failed:
        """What the page says, and the log under the same reference."""
        failed = Visit.now(return_to=return_to).failed(
            away.page_reason, retry_after=getattr(away, "retry_after", None)
        )
        self._events.report(
            "finch.begin.failed",
            logging.ERROR,
            reference=failed.reference,
            reason=failed.reason,
            request_id=getattr(away, "request_id", None),
        )
        return failed


def _configured(options: Options) -> tuple[Settings, Pages]:
    """Settings and pages, or the faults of both in one error."""
    faults: list[str] = []
    spa_origins: Collection[str] = ()
    begin_path, connect_origin = None, ""
    try:
        settings = Settings.of(options, storage_protocol=Storage)
        spa_origins = settings.spa_origins
        begin_path, connect_origin = settings.begin_href, settings.connect_origin
    except ConfigurationError as error:
        faults += error.faults
    try:
        pages = Pages(
            brand=options.get("brand", ""),
            texts=options.get("texts", {}),
            templates=options.get("templates"),
            spa_origins=spa_origins,
            begin_path=begin_path,
            connect_origin=connect_origin,
        )
    except ConfigurationError as error:
        faults += error.faults
    # The caller's own dict: a traceback with locals would show the client secret and the key.
    cast("dict[str, object]", options).clear()
    if faults:
        raise ConfigurationError(faults)
    return settings, pages


def _taken(environ: list[Mapping[str, str] | None], overrides: Options) -> Options:
    """The options of the environment under *overrides*; leaves nothing in either."""
    options = cast("Options", {**options_from_env(environ.pop()), **overrides})
    cast("dict[str, object]", overrides).clear()
    return options
