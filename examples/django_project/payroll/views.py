"""The application's own views, and the component that Finch's views use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.views.decorators.http import require_GET, require_POST
from shared import home_page

from finch_middleware import (
    CallbackRequest,
    Connection,
    Customer,
    FinchConnect,
    FinchRefused,
    Unavailable,
)

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
status_checks = ThreadPoolExecutor(thread_name_prefix="status")


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(SessionStore(dict(request.cookies()).get("sessionid")))


finch = FinchConnect.from_env(
    brand="Example HR",
    customer_of=customer_of,
    begin_path="/connect",
    webhook_path="/finch/webhook",
)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    customer = signed_in(request.session)
    try:
        known = finch.connections.for_customer(customer.id) if customer else []
    except Unavailable:
        return HttpResponse("Try again in a minute.", status=503)
    page = home_page(
        customer,
        connections=[with_status(finch, each) for each in known],
        hint=request.GET.get("finch"),
        csrf_token=get_token(request),
        csrf_field="csrfmiddlewaretoken",
    )
    return HttpResponse(page)


@require_POST
def sign_in_or_out(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    request.session["customer_id"] = request.POST.get("customer_id", "")
    return HttpResponseRedirect("/")


def signed_in(session: Mapping[str, Any]) -> Customer | None:
    return EMPLOYERS.get(session.get("customer_id", ""))


def with_status(finch: FinchConnect, connection: Connection) -> Connection:
    """The connection with Finch's current status, or after two seconds with the last known one."""
    ids = {"connection_id": connection.connection_id, "customer_id": connection.customer_id}
    try:
        return status_checks.submit(finch.connections.refresh, **ids).result(2) or connection
    except FinchRefused:  # Finch no longer accepts the token
        return dataclasses.replace(connection, status="disconnected")
    except (Unavailable, TimeoutError):
        return connection
