"""Falcon: the middleware handles Finch's paths; the session is a signed cookie."""

from __future__ import annotations

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from falcon import (
    MEDIA_HTML,
    App,
    HTTPForbidden,
    HTTPSeeOther,
    HTTPServiceUnavailable,
    Request,
    Response,
)
from itsdangerous import BadSignature, URLSafeSerializer
from shared import home_page

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


class Sessions:
    """Reads the session before each request, refuses forged forms, and stores it afterwards."""

    def process_request(self, req: Request, resp: Response) -> None:
        session = req.context.session = session_of(req.cookies.get("session"))
        given = req.get_media({}).get("csrf_token", "") if req.method == "POST" else ""
        if req.method == "POST" and not secrets.compare_digest(
            given.encode(), session["csrf_token"].encode()
        ):
            raise HTTPForbidden

    def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        cookie = SESSIONS.dumps(req.context.session)
        resp.set_cookie("session", cookie, secure=False, http_only=True, same_site="Lax")


def create_app() -> FinchMiddleware:
    """The application."""
    finch = FinchConnect.from_env(
        brand="Example HR",
        customer_of=customer_of,
        begin_path="/connect",
        webhook_path="/finch/webhook",
    )

    class Payroll:
        def on_get(self, req: Request, resp: Response) -> None:
            customer = signed_in(req.context.session)
            known = finch.connections.for_customer(customer.id) if customer else []
            resp.content_type = MEDIA_HTML
            resp.text = home_page(
                customer,
                connections=[with_status(finch, each) for each in known],
                hint=req.get_param("finch"),
                csrf_token=req.context.session["csrf_token"],
            )

        def on_post_sign(self, req: Request, resp: Response) -> None:
            customer_id = req.get_media().get("customer_id", "")
            req.context.session = new_session(customer_id=customer_id)
            raise HTTPSeeOther("/")

    app = App(middleware=[Sessions()])
    app.add_error_handler(Unavailable, respond_unavailable)
    for suffix, path in ((None, "/"), ("sign", "/sign-in"), ("sign", "/sign-out")):
        app.add_route(path, Payroll(), suffix=suffix)
    return FinchMiddleware(app, finch)


def respond_unavailable(req: Request, resp: Response, error: Unavailable, params: Any) -> None:
    raise HTTPServiceUnavailable(description="Try again in a minute.")


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
