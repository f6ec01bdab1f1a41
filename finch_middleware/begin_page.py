"""The begin path: a flow that begins without a view of the application."""

from __future__ import annotations

import logging
from collections.abc import Callable

from finch_middleware.config.customers import Customer, customer_ids
from finch_middleware.config.settings import Settings
from finch_middleware.config.urls import browser_path
from finch_middleware.errors import (
    AlreadyConnected,
    FinchError,
    FinchRefused,
    ReturnFault,
    SchemaMismatch,
    Unavailable,
    UsageError,
)
from finch_middleware.hooks import Events
from finch_middleware.outcomes import Response
from finch_middleware.visit import Visit
from finch_middleware.web.pages import Pages
from finch_middleware.web.request import CallbackRequest


class BeginPage:
    """Shows the button, and begins for whoever presses it: `customer_of` says who that is."""

    def __init__(
        self, *, settings: Settings, pages: Pages, events: Events, begin: Callable[..., Response]
    ) -> None:
        self._settings = settings
        self._pages = pages
        self._events = events
        self._begin = begin

    def answer(self, request: CallbackRequest) -> Response:
        """
        A page for a GET; for a POST of our own page, the way into Finch Connect.

        Whatever is away, or needs mending by an operator, is a page too.

        Raises:
            UsageError: `customer_of` answered something else than one Customer, or nobody; or
                its customer is one that no call may have.
        """
        if request.method in ("GET", "HEAD"):
            return self._pages.begin(connect_origin=self._settings.connect_origin)
        try:
            return self._begun(request)
        except ReturnFault as fault:
            return self._rejected(request, reason=fault.reason)
        except Unavailable as away:
            return away.response()
        except (AlreadyConnected, FinchRefused) as refusal:
            return self._failed(request, refusal, reason="client_rejected")
        except SchemaMismatch as mismatch:
            return self._failed(request, mismatch, reason="storage_unavailable")

    def _begun(self, request: CallbackRequest) -> Response:
        if request.method != "POST":
            raise ReturnFault("method")
        # "none" is the person's own doing: an address typed, a page restored.
        typed = request.headers.get("Sec-Fetch-Site") == "none"
        ours = request.same_origin(self._settings.origin)
        if not (typed or ours or request.from_page_of(self._settings.spa_origins)):
            raise ReturnFault("cross_site")
        customer = self._customer(request)
        return self._begin(
            customer_id=str(customer.id),
            customer_name=customer.name,
            customer_email=customer.email,
            request=request,
            return_to=self._settings.return_to,
            flow="embedded" if request.from_script else "redirect",
        )

    def _customer(self, request: CallbackRequest) -> Customer:
        if self._settings.customer_of is None:
            raise UsageError("a begin page asks customer_of for whom it begins: configure one")
        answer = self._settings.customer_of(request)
        if not customer_ids(answer):
            raise ReturnFault("signed_out")
        if not isinstance(answer, Customer):
            raise UsageError(
                "at begin_path customer_of must answer one Customer(id=..., name=...), or None; "
                "where a login has several, begin in a view of the application"
            )
        return answer

    def _rejected(self, request: CallbackRequest, *, reason: str) -> Response:
        invalid = Visit.now(return_to=self._settings.return_to).invalid(reason)
        level = logging.DEBUG if reason == "method" else logging.WARNING
        self._events.report(
            "finch.begin.rejected", level, reference=invalid.reference, reason=reason
        )
        return self._pages.respond(invalid, request)

    def _failed(self, request: CallbackRequest, fault: FinchError, *, reason: str) -> Response:
        """Nobody but the operators can mend this: the log has the code of what is wrong."""
        failed = Visit.now(return_to=self._settings.return_to).failed(reason)
        self._events.report(
            "finch.begin.failed",
            logging.ERROR,
            reference=failed.reference,
            reason=fault.code,
            request_id=getattr(fault, "request_id", None),
        )
        return self._pages.respond(failed, request)


def browser_path_of(settings: Settings) -> str | None:
    """The begin path as a browser writes it, where there is one and that is known."""
    if settings.begin_path is None:
        return None
    return browser_path(
        settings.begin_path,
        callback_path=settings.callback_path,
        redirect_uri=settings.redirect_uri,
    )
