"""WSGI without a framework: the middleware handles Finch's paths."""

from __future__ import annotations

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor

from itsdangerous import BadSignature, URLSafeSerializer
from shared import home_page
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from finch_middleware import (
    CallbackRequest,
    Connection,
    Customer,
    FinchConnect,
    FinchMiddleware,
    FinchRefused,
    Unavailable,
)

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
#: The key is new at each start, so a restart ends all sessions.
SESSIONS = URLSafeSerializer(secrets.token_bytes(32))
status_checks = ThreadPoolExecutor(thread_name_prefix="status")


def create_app() -> FinchMiddleware:
    """The application."""
    finch = FinchConnect.from_env(
        brand="Example HR",
        customer_of=customer_of,
        begin_path="/connect",
        webhook_path="/finch/webhook",
    )

    @Request.application
    def app(request: Request) -> Response:
        session = session_of(request.cookies.get("session"))
        expected, given = session["csrf_token"], request.form.get("csrf_token", "")
        match request.method, request.path:
            case "POST", _ if not secrets.compare_digest(given.encode(), expected.encode()):
                return Response("Forbidden", 403)
            case "POST", "/sign-in" | "/sign-out":
                session = new_session(customer_id=request.form.get("customer_id", ""))
                response = redirect("/", 303)
            case "GET", "/":
                response = home(session, hint=request.args.get("finch"))
            case _:
                return Response("Not found", 404)
        response.set_cookie("session", SESSIONS.dumps(session), httponly=True, samesite="Lax")
        return response

    def home(session: dict[str, str], *, hint: str | None) -> Response:
        customer = signed_in(session)
        try:
            known = finch.connections.for_customer(customer.id) if customer else []
        except Unavailable:
            return Response("Try again in a minute.", 503)
        page = home_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=hint,
            csrf_token=session["csrf_token"],
        )
        return Response(page, mimetype="text/html")

    return FinchMiddleware(app, finch)


def session_of(cookie: str | None) -> dict[str, str]:
    """The session in the signed cookie, or a new one."""
    try:
        session: dict[str, str] = SESSIONS.loads(cookie or "")
    except BadSignature:
        return new_session()
    return session


def new_session(*, customer_id: str = "") -> dict[str, str]:
    return {"csrf_token": secrets.token_urlsafe(), "customer_id": customer_id}


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(session_of(dict(request.cookies()).get("session")))


def signed_in(session: dict[str, str]) -> Customer | None:
    return EMPLOYERS.get(session["customer_id"])


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
