"""Bottle: three routes are Finch's; the login and the CSRF token are in Bottle's signed cookies."""

from __future__ import annotations

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor

from bottle import Bottle, HTTPResponse, abort, redirect, request, response
from shared import home_page

from finch_middleware import (
    Connection,
    Customer,
    FinchConnect,
    FinchRefused,
    Response,
    Unavailable,
)

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
KEY = secrets.token_urlsafe()
status_checks = ThreadPoolExecutor(thread_name_prefix="status")


def create_app() -> Bottle:
    """The application."""
    finch = FinchConnect.from_env(brand="Example HR", customer_of=lambda request: signed_in())

    def refuse_forged_forms() -> None:
        if request.path == "/finch/webhook":
            return  # it checks Finch's signature
        expected = request.get_cookie("csrf_token", "", secret=KEY)
        given = request.forms.getunicode("csrf_token", "").encode()
        if request.method == "POST" and not (
            expected and secrets.compare_digest(given, expected.encode())
        ):
            abort(403)

    def home() -> str:
        csrf_token = request.get_cookie("csrf_token", secret=KEY) or secrets.token_urlsafe()
        keep("csrf_token", csrf_token)
        customer = signed_in()
        try:
            known = finch.connections.for_customer(customer.id) if customer else []
        except Unavailable:
            abort(503, "Try again in a minute.")
        return home_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=request.query.getunicode("finch"),
            csrf_token=csrf_token,
        )

    def sign_in_or_out() -> None:
        keep("csrf_token", secrets.token_urlsafe())
        keep("customer_id", request.forms.getunicode("customer_id", ""))
        redirect("/", 303)

    app = Bottle()
    app.add_hook("before_request", refuse_forged_forms)
    app.route("/", "GET", home)
    app.route(["/sign-in", "/sign-out"], "POST", sign_in_or_out)
    app.route("/connect", "POST", lambda: as_bottle(finch.begin_page(request)))
    app.route("/finch/callback", "GET", lambda: as_bottle(finch.callback(request)))
    app.route("/finch/webhook", "POST", lambda: as_bottle(finch.webhook(request)))
    return app


def keep(name: str, value: str) -> None:
    response.set_cookie(name, value, secret=KEY, path="/", httponly=True, samesite="lax")


def signed_in() -> Customer | None:
    return EMPLOYERS.get(request.get_cookie("customer_id", "", secret=KEY))


def as_bottle(made: Response) -> HTTPResponse:
    return HTTPResponse(made.get_data(), made.status_code, list(made.headers.items()))


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
