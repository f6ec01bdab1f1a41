"""The pages with a button that opens Finch Connect."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from finch_middleware.config.customers import Customer, customer_ids, signed_in_customer
from finch_middleware.config.settings import Settings
from finch_middleware.errors import (
    AlreadyConnected,
    FinchError,
    FinchRefused,
    ReturnFault,
    SchemaMismatch,
    Unavailable,
    UsageError,
)
from finch_middleware.outcomes import Response
from finch_middleware.web.pages import At, Pages
from finch_middleware.web.request import CallbackRequest, Visit

if TYPE_CHECKING:
    from finch_middleware.hooks.events import Events


@dataclass(kw_only=True, eq=False, repr=False)
class OpeningPage(ABC):
    """A page of ours with one button: its GET changes nothing, its POST opens Finch Connect."""

    at: ClassVar[At]
    settings: Settings
    pages: Pages
    events: Events

    def respond(self, request: CallbackRequest) -> Response:
        """
        The page for a GET; for a POST of this very page, the redirect to Finch Connect.

        Whoever may not begin, or cannot now, gets a page without the button.
        """
        try:
            if request.method in ("GET", "HEAD"):
                return self.show(request)
            self._require_own_page(request)
            return self.open(request)
        except ReturnFault as fault:
            return self._reject(request, reason=fault.reason)
        except (AlreadyConnected, FinchRefused, SchemaMismatch, Unavailable) as fault:
            return fault.make_page() if fault.make_page else self._fail(request, fault)

    @abstractmethod
    def show(self, request: CallbackRequest) -> Response:
        """The page with the button. Changes nothing, and does not call Finch."""

    @abstractmethod
    def open(self, request: CallbackRequest) -> Response:
        """The response that opens Finch Connect, for a POST that this page sent."""

    def _require_own_page(self, request: CallbackRequest) -> None:
        if request.method != "POST":
            raise ReturnFault("method")
        # "none" is the person's own doing: an address typed, a page restored.
        typed = request.headers.get("Sec-Fetch-Site") == "none"
        own_page = request.same_origin(self.settings.origin)
        if not (typed or own_page or request.from_page_of(self.settings.spa_origins)):
            raise ReturnFault("cross_site")

    def _reject(self, request: CallbackRequest, *, reason: str) -> Response:
        invalid = Visit(return_to=self.settings.return_to).invalid(reason)
        # Opening the page signed out is everyday traffic.
        everyday = reason == "method" or request.method in ("GET", "HEAD")
        level = logging.DEBUG if everyday else logging.WARNING
        self.events.report(
            "finch.begin.rejected", level, reference=invalid.reference, reason=reason
        )
        return self.pages.respond(invalid, request, at=self.at)

    def _fail(self, request: CallbackRequest, fault: FinchError) -> Response:
        """The log has the code of the error: only an operator can fix most of these."""
        failed = Visit(return_to=self.settings.return_to).failed(fault.page_reason)
        self.events.report(
            "finch.begin.failed",
            logging.ERROR,
            reference=failed.reference,
            reason=fault.code,
            request_id=fault.request_id,
        )
        return self.pages.respond(failed, request, at=self.at)


@dataclass(kw_only=True, eq=False, repr=False)
class BeginPage(OpeningPage):
    """Shows the button to a signed-in person, and begins; `customer_of` names them."""

    at = "begin"
    begin: Callable[..., Response]

    def show(self, request: CallbackRequest) -> Response:
        self._customer(request)
        return self.pages.begin()

    def open(self, request: CallbackRequest) -> Response:
        customer = self._customer(request)
        return self.begin(
            customer_id=str(customer.id),
            customer_name=customer.name,
            customer_email=customer.email,
            request=request,
            return_to=self.settings.return_to,
            flow="embedded" if request.from_script else "redirect",
        )

    def _customer(self, request: CallbackRequest) -> Customer:
        if self.settings.customer_of is None:
            raise UsageError("begin_page needs the option customer_of, to know who is signed in")
        customer = signed_in_customer(self.settings.customer_of, request)
        if not customer_ids(customer):
            raise ReturnFault("signed_out")
        if not isinstance(customer, Customer):
            raise UsageError(
                "at begin_path customer_of must return one Customer(id=..., name=...), or None; "
                "if a login has several customers, call begin in a view"
            )
        return customer
