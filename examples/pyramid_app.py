"""Pyramid: the callback is a view, and the CSRF protection is Pyramid's own."""

from __future__ import annotations

import secrets
from typing import Any

from pyramid.config import Configurator  # type: ignore[import-untyped]  # Pyramid has no types
from pyramid.exceptions import BadCSRFToken  # type: ignore[import-untyped]  # no types
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther  # type: ignore[import-untyped]  # no types
from pyramid.response import Response  # type: ignore[import-untyped]  # no types
from pyramid.session import SignedCookieSessionFactory  # type: ignore[import-untyped]  # no types
from shared import EMPLOYERS, finch_options, home_page, serve

from finch_middleware import Away, FinchConnect


def create_app(address: str) -> Any:
    """The application, for browsers that find it at *address*."""
    finch = FinchConnect(**finch_options(address))

    def home(request: Any) -> Any:
        customer_id, hint = request.session.get("customer_id"), request.GET.get("finch")
        listed, token = finch.connections.for_customer, request.session.get_csrf_token()
        return Response(home_page(customer_id, connections_of=listed, hint=hint, csrf_token=token))

    def sign_in_or_out(request: Any) -> Any:
        request.session.invalidate()
        if request.POST.get("customer_id") in EMPLOYERS:
            request.session["customer_id"] = request.POST["customer_id"]
        return HTTPSeeOther("/")

    def connect(request: Any) -> Any:
        if (customer_id := request.session.get("customer_id")) is None:
            raise HTTPForbidden
        name = EMPLOYERS[customer_id]
        answer = finch.begin(request=request, customer_id=customer_id, customer_name=name)
        return request.get_response(answer)

    def callback(request: Any) -> Any:
        answer = finch.callback(request, customer_id=request.session.get("customer_id"))
        return request.get_response(answer)

    sessions = SignedCookieSessionFactory(secrets.token_hex(), httponly=True, samesite="Lax")
    config = Configurator(session_factory=sessions)
    config.set_default_csrf_options(require_csrf=True)
    config.add_exception_view(lambda request: HTTPForbidden(), context=BadCSRFToken)
    config.add_exception_view(lambda away, req: req.get_response(away.response()), context=Away)
    for path, method, view in (
        ("/", "GET", home),
        ("/sign-in", "POST", sign_in_or_out),
        ("/sign-out", "POST", sign_in_or_out),
        ("/connect", "POST", connect),
        ("/finch/callback", "GET", callback),
    ):
        config.add_route(path, path, request_method=method)
        config.add_view(view, route_name=path)
    return config.make_wsgi_app()


if __name__ == "__main__":
    serve(create_app)
