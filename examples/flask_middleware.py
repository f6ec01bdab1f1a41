"""Flask in the middleware, which handles Finch's paths: the page needs only a form."""

from __future__ import annotations

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, abort, redirect, request, session
from shared import home_page
from werkzeug.wrappers import Response

from finch_middleware import Connection, Customer, FinchConnect, FinchRefused, Unavailable
from finch_middleware.adapters.flask import Finch

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
status_checks = ThreadPoolExecutor(thread_name_prefix="status")
finch = Finch()


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")
    finch.init_app(
        app,
        brand="Example HR",
        customer_of=lambda request: signed_in(),
        begin_path="/connect",
        webhook_path="/finch/webhook",
    )

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        given = request.form.get("csrf_token", "").encode()
        if request.method == "POST" and not secrets.compare_digest(given, expected.encode()):
            abort(403)

    @app.get("/")
    def home() -> str:
        customer = signed_in()
        known = finch().connections.for_customer(customer.id) if customer else []
        return home_page(
            customer,
            connections=[with_status(finch(), each) for each in known],
            hint=request.args.get("finch"),
            csrf_token=session["csrf_token"],
        )

    @app.post("/sign-in")
    @app.post("/sign-out")
    def sign_in_or_out() -> Response:
        session.clear()
        session["customer_id"] = request.form.get("customer_id", "")
        return redirect("/", 303)

    return app


def signed_in() -> Customer | None:
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
