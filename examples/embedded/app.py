"""The embedded flow: Finch Connect opens inside the page. Copy `connect.js` too."""

from __future__ import annotations

import dataclasses
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

from flask import Flask, abort, redirect, request, send_file, session
from werkzeug.wrappers import Response

from finch_middleware import (
    CallbackRequest,
    Connection,
    Customer,
    FinchConnect,
    FinchMiddleware,
    FinchRefused,
    Unavailable,
)

sys.path.append(str(Path(__file__).parents[1]))

from shared import home_page

SDK_URL = os.environ.get("FINCH_SDK_URL", "https://prod-cdn.tryfinch.com/latest/connect.js")
SCRIPTS = f"""<script src="{SDK_URL}" defer></script>
<script src="/connect.js" data-callback="/finch/callback" defer></script>
"""

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

    def customer_of(request: CallbackRequest) -> Customer | None:
        with app.request_context(dict(request.environ)):
            return signed_in()

    # One form begins both flows: a browser's POST gets a redirect, one of connect.js gets JSON.
    finch = FinchConnect.from_env(
        brand="Example HR",
        customer_of=customer_of,
        begin_path="/connect",
        webhook_path="/finch/webhook",
    )
    app.wsgi_app = FinchMiddleware(app.wsgi_app, finch)  # type: ignore[method-assign]  # as Flask's manual does
    app.register_error_handler(Unavailable, lambda error: ("Try again in a minute.", 503))

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        given = request.form.get("csrf_token", "").encode()
        if request.method == "POST" and not secrets.compare_digest(given, expected.encode()):
            abort(403)

    @app.after_request
    def restrict(response: Response) -> Response:
        """Allow both scripts, and Finch Connect in a frame or, by the form, in the page's place."""
        connect = os.environ.get("FINCH_CONNECT_ORIGIN") or "https://connect.tryfinch.com"
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'self' {urljoin(SDK_URL, '/')}; connect-src 'self'; "
            f"frame-src {connect}; form-action 'self' {connect}; base-uri 'none'; "
            "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
        )
        return response

    @app.get("/connect.js")
    def script() -> Response:
        return send_file(Path(__file__).with_name("connect.js"))

    @app.get("/")
    def home() -> str:
        customer = signed_in()
        known = finch.connections.for_customer(customer.id) if customer else []
        page = home_page(
            customer,
            connections=[with_status(finch, each) for each in known],
            hint=request.args.get("finch"),
            csrf_token=session["csrf_token"],
        )
        return page.replace("</head>", f"{SCRIPTS}</head>")

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
