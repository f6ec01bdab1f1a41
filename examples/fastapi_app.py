"""FastAPI: the ASGI middleware handles Finch's paths."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from shared import home_page
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import Response

from finch_middleware import (
    CallbackRequest,
    Connection,
    Customer,
    FinchConnect,
    FinchRefused,
    Unavailable,
)
from finch_middleware.adapters.asgi import FinchASGIMiddleware

#: In production your database has them, and a sign-in asks for a password.
EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}
status_checks = ThreadPoolExecutor(thread_name_prefix="status")
Field = Annotated[str, Form()]


def create_app() -> FastAPI:
    """The application."""
    app = FastAPI()
    finch = FinchConnect.from_env(
        brand="Example HR",
        customer_of=customer_of,
        begin_path="/connect",
        webhook_path="/finch/webhook",
    )
    app.add_middleware(FinchASGIMiddleware, finch=finch)
    # The middleware added last runs first: customer_of then finds the session.
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(32), same_site="lax")

    @app.exception_handler(Unavailable)
    def respond_unavailable(request: Request, error: Unavailable) -> Response:
        return PlainTextResponse("Try again in a minute.", 503)

    # Not "async def": FastAPI then runs these views, which block, in a thread.
    @app.get("/", response_class=HTMLResponse)
    def home(request: Request) -> str:
        customer = signed_in(request.session)
        known = finch.connections.for_customer(customer.id) if customer else []
        return home_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=request.query_params.get("finch"),
            csrf_token=request.session.setdefault("csrf_token", secrets.token_urlsafe()),
        )

    @app.post("/sign-in")
    @app.post("/sign-out")
    def sign_in_or_out(
        request: Request, csrf_token: Field = "", customer_id: Field = ""
    ) -> Response:
        expected = request.session.get("csrf_token", "").encode()
        if not (expected and secrets.compare_digest(csrf_token.encode(), expected)):
            raise HTTPException(403)
        request.session.clear()
        request.session["customer_id"] = customer_id
        return RedirectResponse("/", 303)

    return app


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(request.environ["asgi.scope"]["session"])


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
    from shared import serve_asgi

    serve_asgi(create_app)
