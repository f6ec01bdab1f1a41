"""
An application that type checkers read strictly, without a cast or an Any; it is never run.

Each `type: ignore` marks a mistake: a checker that finds nothing there fails the test.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, request

from finch_middleware import (
    CallbackRequest,
    Connected,
    Connection,
    Customer,
    Event,
    Failed,
    FinchConnect,
    FinchMiddleware,
    Outcome,
    RedactCallback,
    Repeated,
    Response,
    Unavailable,
)
from finch_middleware.adapters.asgi import FinchASGIMiddleware, Receive, Scope, Send


class Task:
    """As a queue's: `delay` returns a value that is not read."""

    def delay(self, connection_id: str) -> int:
        return len(connection_id)


task = Task()


def customer_of(request: CallbackRequest) -> Customer | None:
    customer_id = request.environ.get("customer_id", "")
    return Customer(id=customer_id, name="Acme Inc.") if customer_id else None


def customers_of(request: CallbackRequest) -> list[str]:
    return [request.headers.get("X-Customer", "")]


def render(outcome: Outcome, request: CallbackRequest) -> Response | None:
    ended = outcome.first if isinstance(outcome, Repeated) else outcome
    if isinstance(ended, Connected):
        return Response(f"{ended.connection_id} {request.method}")
    return Response(ended.reason) if isinstance(ended, Failed) else None


def always_render(outcome: Outcome, request: CallbackRequest) -> Response:
    return Response(f"{type(outcome).__name__} {request.method}")


def on_event(event: Event) -> str:
    return f"{event.name} {event.level}"


def missing(*, hook: Callable[[Connection], None] | None = None) -> FinchConnect:
    """Every hook may be None, as where a setting is not made."""
    return FinchConnect.from_env(
        brand=os.environ.get("BRAND", ""),
        customer_of=None,
        render=None,
        on_connected=hook,
        on_event=None,
        callback_path=None,
        begin_path=None,
        templates=None,
        clock=None,
        accepted_keys=None,
        connect_origin=None,
    )


finch = FinchConnect(
    client_id="client",
    client_secret="secret",
    redirect_uri="https://app.example.com/finch/callback",
    products=["company", "directory"],
    storage="sqlite:///finch.db",
    key="k1:…",
    spool=Path("/var/spool/finch"),
    sandbox="finch",
    begin_path="/connect",
    spa_origins=("https://pages.example.com",),
    customer_of=customer_of,
    render=render,
    on_connected=lambda connection: task.delay(connection.connection_id),
    webhook_path="/finch/webhook",
    webhook_secrets=["bm8="],
    on_webhook=lambda event: task.delay(event.connection_id or str(event.data["job_id"])),
    on_event=on_event,
    on_status=lambda change: task.delay(change.after),
    on_disconnected=lambda ended: task.delay(ended.connection_id),
    on_problem=lambda problem: task.delay(problem.action),
    texts={"page": {"application": "Acme"}},
    exchange_deadline=timedelta(seconds=12),
    clock=lambda: datetime.now(UTC),
)
other = FinchConnect.from_env(customer_of=customers_of, render=always_render)

app = Flask(__name__)


@app.errorhandler(Unavailable)
def unavailable(error: Unavailable) -> Response:
    return error.response()


@app.post("/connect")
def connect() -> Response:
    return finch.begin(
        request=request, customer_id="acme", customer_name="Acme Inc.", return_to="/settings"
    )


@app.route("/finch/callback", methods=["GET", "POST"])
def callback() -> Response:
    return finch.callback(request, customer_id={"acme", "umbrella"})


def tokens(customer_id: str) -> list[tuple[str, str]]:
    found = finch.connections.for_customer(customer_id)
    return [(each.customer_id, each.access_token.reveal()) for each in found]


def one(connection_id: str) -> Connection | None:
    return finch.connections.get(connection_id, customer_id="acme")


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


async def asgi(scope: Scope, receive: Receive, send: Send) -> None: ...


wrapped = FinchMiddleware(app, finch)
also_wrapped = FinchMiddleware(application, finch)
wrapped_asgi = FinchASGIMiddleware(asgi, finch)
redacted = RedactCallback()


def wrong_event(event: int) -> None: ...


def wrong_render(outcome: Outcome, request: CallbackRequest) -> str:
    return ""


def mistakes() -> None:
    FinchConnect.from_env(on_event=wrong_event)  # type: ignore[arg-type]
    FinchConnect.from_env(render=wrong_render)  # type: ignore[arg-type]
    FinchConnect.from_env(customer_of=lambda request: 1.5)  # type: ignore[arg-type,return-value]
    FinchConnect.from_env(brand=None)  # type: ignore[arg-type]
    FinchConnect.from_env(colour="red")  # type: ignore[call-arg]
    FinchMiddleware(finch, application)  # type: ignore[arg-type]
