"""The embedded flow: Finch Connect opens inside the page. Copy `connect.js` and `policy.py`."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from flask import Flask, abort, redirect, request, send_file, session
from policy import restrict
from werkzeug.wrappers import Response

from finch_middleware import CallbackRequest, Customer, FinchConnect, FinchMiddleware

sys.path.append(str(Path(__file__).parents[1]))  # what all examples share

from shared import connections_now, embedded, forged, home_page, serve, signed_in


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")

    def customer_of(request: CallbackRequest) -> Customer | None:
        with app.request_context(dict(request.environ)):
            return signed_in(session)

    # The same form begins either flow: its POST gets a redirect, that of connect.js gets JSON.
    finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")
    app.wsgi_app = FinchMiddleware(app.wsgi_app, finch)  # type: ignore[method-assign]  # Flask's way

    app.after_request(restrict)

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        if request.method == "POST" and forged(request.form.get("csrf_token"), expected=expected):
            abort(403)

    @app.get("/")
    def home() -> str:
        customer, token = signed_in(session), session["csrf_token"]
        listed, hint = connections_now(finch, customer), request.args.get("finch")
        page = home_page(customer, connections=listed, hint=hint, csrf_token=token)
        return embedded(page)

    @app.get("/connect.js")
    def script() -> Response:
        return send_file(Path(__file__).with_name("connect.js"))

    @app.post("/sign-in")
    @app.post("/sign-out")
    def sign_in_or_out() -> Response:
        session.clear()
        session["customer_id"] = request.form.get("customer_id", "")
        return redirect("/", 303)

    return app


if __name__ == "__main__":
    serve(create_app)
