"""Flask, wrapped from outside: the application has no callback, the middleware answers it."""

from __future__ import annotations

import secrets

from flask import Flask, abort, redirect, request, session
from shared import EMPLOYERS, finch_options, forged, home_page, serve
from werkzeug.wrappers import Response

from finch_middleware import Away, CallbackRequest, FinchConnect, FinchMiddleware


def create_app(address: str) -> Flask:
    """The application, for browsers that find it at *address*."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")

    def customer_of(request: CallbackRequest) -> str | None:
        with app.request_context(dict(request.environ)):
            return session.get("customer_id")

    finch = FinchConnect(**finch_options(address, customer_of=customer_of))
    app.wsgi_app = FinchMiddleware(app.wsgi_app, finch)  # type: ignore[method-assign]  # Flask's way
    app.register_error_handler(Away, lambda away: away.response())

    @app.before_request
    def refuse_forged_forms() -> None:
        expected = session.setdefault("csrf_token", secrets.token_urlsafe())
        if request.method == "POST" and forged(request.form.get("csrf_token"), expected=expected):
            abort(403)

    @app.get("/")
    def home() -> str:
        return home_page(
            session.get("customer_id"),
            connections_of=finch.connections.for_customer,
            hint=request.args.get("finch"),
            csrf_token=session["csrf_token"],
        )

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
        customer_id = session.get("customer_id") or abort(403)
        name = EMPLOYERS[customer_id]
        return finch.begin(request=request, customer_id=customer_id, customer_name=name)

    return app


if __name__ == "__main__":
    serve(create_app)
