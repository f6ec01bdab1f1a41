"""The embedded flow: Finch Connect opens inside the page; `connect.js` is what to copy."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, abort, redirect, request, send_file, session
from werkzeug.wrappers import Response

from finch_middleware import CallbackRequest, Customer, FinchConnect, FinchMiddleware

sys.path.append(str(Path(__file__).parents[1]))  # what all examples share

from shared import CALLBACK_PATH, EMPLOYERS, finch_options, forged, home_page, serve

SDK = os.environ.get("FINCH_SDK_URL", "https://prod-cdn.tryfinch.com/latest/connect.js")
SCRIPTS = f"""\
<script src="{SDK}" defer></script>
<script src="/connect.js" data-callback="{CALLBACK_PATH}" defer></script>
</head>"""


def create_app(address: str) -> Flask:
    """The application, for browsers that find it at *address*."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")

    def customer_of(request: CallbackRequest) -> Customer | None:
        with app.request_context(dict(request.environ)):
            customer_id = session.get("customer_id")
        return customer_id and Customer(id=customer_id, name=EMPLOYERS[customer_id])

    # No view begins: a POST to begin_path does, and only from a page of this application.
    options = finch_options(address, customer_of=customer_of, begin_path="/connect")
    finch = FinchConnect(**options)
    app.wsgi_app = FinchMiddleware(app.wsgi_app, finch)  # type: ignore[method-assign]  # Flask's way

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        if request.method == "POST" and forged(request.form.get("csrf_token"), expected=expected):
            abort(403)

    @app.after_request
    def restrict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _policy(options["connect_origin"])
        return response

    @app.get("/")
    def home() -> str:
        page = home_page(
            session.get("customer_id"),
            connections_of=finch.connections.for_customer,
            hint=request.args.get("finch"),
            csrf_token=session["csrf_token"],
        )
        return page.replace("</head>", SCRIPTS)

    @app.get("/connect.js")
    def script() -> Response:
        return send_file(Path(__file__).with_name("connect.js"))

    @app.post("/sign-in")
    def sign_in() -> Response:
        session.clear()
        if request.form.get("customer_id") in EMPLOYERS:
            session["customer_id"] = request.form["customer_id"]
        return redirect("/", 303)

    @app.post("/sign-out")
    def sign_out() -> Response:
        session.clear()
        return redirect("/", 303)

    return app


def _policy(connect_origin: str) -> str:
    """What the page may load: Finch's SDK, our script, and Finch Connect in a frame."""
    sdk = urlsplit(SDK)
    return (
        f"default-src 'none'; script-src 'self' {sdk.scheme}://{sdk.netloc}; connect-src 'self'; "
        f"frame-src {connect_origin}; form-action 'self' {connect_origin}; base-uri 'none'; "
        "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
    )


if __name__ == "__main__":
    serve(create_app)
