"""Pyramid: three views are Finch's, and the CSRF protection is Pyramid's own."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyramid.config import Configurator
from pyramid.exceptions import BadCSRFToken
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther, HTTPServiceUnavailable
from pyramid.request import Request
from pyramid.response import Response
from pyramid.session import SignedCookieSessionFactory
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


def create_app() -> Any:
    """The application."""
    sessions = SignedCookieSessionFactory(secrets.token_hex(), httponly=True, samesite="Lax")

    def customer_of(request: CallbackRequest) -> Customer | None:
        return signed_in(sessions(Request(dict(request.environ))))

    finch = FinchConnect.from_env(brand="Example HR", customer_of=customer_of)

    def home(request: Request) -> Any:
        customer = signed_in(request.session)
        known = finch.connections.for_customer(customer.id) if customer else []
        page = home_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=request.GET.get("finch"),
            csrf_token=request.session.get_csrf_token(),
        )
        return Response(page)

    def sign_in_or_out(request: Request) -> Any:
        request.session.invalidate()
        request.session["customer_id"] = request.POST.get("customer_id", "")
        return HTTPSeeOther("/")

    config = Configurator(session_factory=sessions)
    config.set_default_csrf_options(require_csrf=True)
    config.add_exception_view(lambda request: HTTPForbidden(), context=BadCSRFToken)
    config.add_exception_view(lambda request: HTTPServiceUnavailable(), context=Unavailable)
    for path, method, view in (
        ("/", "GET", home),
        ("/sign-in", "POST", sign_in_or_out),
        ("/sign-out", "POST", sign_in_or_out),
        ("/connect", "POST", lambda request: request.get_response(finch.begin_page(request))),
        ("/finch/callback", "GET", lambda request: request.get_response(finch.callback(request))),
    ):
        config.add_route(path, path, request_method=method)
        config.add_view(view, route_name=path)
    config.add_route("webhook", "/finch/webhook", request_method="POST")
    config.add_view(
        lambda request: request.get_response(finch.webhook(request)),
        route_name="webhook",
        require_csrf=False,  # it checks Finch's signature
    )
    return config.make_wsgi_app()


def signed_in(session: Mapping[str, str]) -> Customer | None:
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


if __name__ == "__main__":
    from shared import serve

    serve(create_app)
