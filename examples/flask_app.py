"""Flask: Finch's views beside your own, with the same session and CSRF protection."""

from __future__ import annotations

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, abort, redirect, request, session
from shared import confirmation_page, invited_page, settings_page, state_of
from werkzeug.wrappers import Response

from finch_middleware import Connection, Customer, FinchConnect, FinchRefused, Unavailable

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
status_checks = ThreadPoolExecutor(thread_name_prefix="status")


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")
    finch = FinchConnect.from_env(
        brand="Example HR",
        customer_of=lambda request: signed_in(),
        invite_path="/finch/invitation",
    )
    app.register_error_handler(Unavailable, lambda error: error.response())
    app.register_error_handler(FinchRefused, lambda error: ("Finch refused this.", 502))

    @app.before_request
    def refuse_forged_forms() -> None:
        if request.endpoint in ("invitation", "webhook"):
            return  # they check a POST themselves, and need no login
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        given = request.form.get("csrf_token", "").encode()
        if request.method == "POST" and not secrets.compare_digest(given, expected.encode()):
            abort(403)

    @app.get("/")
    def home() -> str:
        customer = signed_in()
        known = finch.connections.for_customer(customer.id) if customer else []
        return settings_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=request.args.get("finch"),
            csrf_token=session["csrf_token"],
        )

    @app.get("/connections.json")
    def stored_state() -> str:
        """What an open page asks every two seconds: a webhook changes it. Finch is not asked."""
        customer = signed_in()
        return state_of(finch.connections.for_customer(customer.id) if customer else [])

    @app.post("/sign-in")
    @app.post("/sign-out")
    def sign_in_or_out() -> Response:
        session.clear()
        session["customer_id"] = request.form.get("customer_id", "")
        return redirect("/", 303)

    @app.post("/connect")
    def connect() -> Response:
        return finch.begin_page(request)

    @app.get("/finch/callback")
    def callback() -> Response:
        return finch.callback(request)

    @app.route("/finch/invitation", methods=["GET", "POST"])
    def invitation() -> Response:
        return finch.invite_page(request)

    @app.post("/finch/webhook")
    def webhook() -> Response:
        return finch.webhook(request)

    @app.post("/invite")
    def invite() -> str:
        customer = signed_in() or abort(401)
        link = finch.invitation_url(customer_id=customer.id, customer_name=customer.name)
        return invited_page(customer, link, csrf_token=session["csrf_token"])

    @app.post("/connections/<connection_id>/sign-in-again")
    def sign_in_again(connection_id: str) -> Response:
        owner = own(connection_id).customer_id
        return finch.begin(request=request, customer_id=owner, connection_id=connection_id)

    @app.get("/connections/<connection_id>/disconnect")
    def ask_to_disconnect(connection_id: str) -> str:
        connection = own(connection_id)
        customer = EMPLOYERS[connection.customer_id]
        return confirmation_page(customer, connection, csrf_token=session["csrf_token"])

    @app.post("/connections/<connection_id>/disconnect")
    def disconnect(connection_id: str) -> Response:
        owner = own(connection_id).customer_id
        finch.connections.disconnect(connection_id, customer_id=owner)
        return redirect("/?finch=disconnected", 303)

    def own(connection_id: str) -> Connection:
        """The signed-in customer's connection; another's is as one that does not exist."""
        customer = signed_in() or abort(401)
        return finch.connections.get(connection_id, customer_id=customer.id) or abort(404)

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
