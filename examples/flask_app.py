"""Flask: two views are Finch's, with the session and the CSRF protection of all others."""

from __future__ import annotations

import secrets

from flask import Flask, abort, redirect, request, session
from shared import EMPLOYERS, connections_now, forged, home_page, serve, signed_in
from werkzeug.wrappers import Response

from finch_middleware import FinchConnect


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")
    finch = FinchConnect.from_env(customer_of=lambda request: signed_in(session))

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        if request.method == "POST" and forged(request.form.get("csrf_token"), expected=expected):
            abort(403)

    @app.get("/")
    def home() -> str:
        customer, token = signed_in(session), session["csrf_token"]
        listed, hint = connections_now(finch, customer), request.args.get("finch")
        return home_page(customer, connections=listed, hint=hint, csrf_token=token)

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

    @app.post("/connect")
    def connect() -> Response:
        return finch.begin_page(request)

    @app.get("/finch/callback")
    def callback() -> Response:
        return finch.callback(request)

    return app


if __name__ == "__main__":
    serve(create_app)
