"""Pyramid: two views are Finch's, and the CSRF protection is Pyramid's own."""

from __future__ import annotations

import secrets
from typing import Any

from pyramid.config import Configurator
from pyramid.exceptions import BadCSRFToken
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.session import SignedCookieSessionFactory
from shared import EMPLOYERS, connections_now, home_page, serve, signed_in

from finch_middleware import CallbackRequest, Customer, FinchConnect


def create_app() -> Any:
    """The application."""
    sessions = SignedCookieSessionFactory(secrets.token_hex(), httponly=True, samesite="Lax")

    def customer_of(request: CallbackRequest) -> Customer | None:
        return signed_in(sessions(Request(dict(request.environ))))

    finch = FinchConnect.from_env(customer_of=customer_of)

    def home(request: Request) -> Any:
        customer, token = signed_in(request.session), request.session.get_csrf_token()
        listed, hint = connections_now(finch, customer), request.GET.get("finch")
        return Response(home_page(customer, connections=listed, hint=hint, csrf_token=token))

    def sign_in_or_out(request: Request) -> Any:
        request.session.invalidate()
        if request.POST.get("customer_id") in EMPLOYERS:
            request.session["customer_id"] = request.POST["customer_id"]
        return HTTPSeeOther("/")

    config = Configurator(session_factory=sessions)
    config.set_default_csrf_options(require_csrf=True)
    config.add_exception_view(lambda request: HTTPForbidden(), context=BadCSRFToken)
    for path, method, view in (
        ("/", "GET", home),
        ("/sign-in", "POST", sign_in_or_out),
        ("/sign-out", "POST", sign_in_or_out),
        ("/connect", "POST", lambda request: request.get_response(finch.begin_page(request))),
        ("/finch/callback", "GET", lambda request: request.get_response(finch.callback(request))),
    ):
        config.add_route(path, path, request_method=method)
        config.add_view(view, route_name=path)
    return config.make_wsgi_app()


if __name__ == "__main__":
    serve(create_app)
