"""Flask, wrapped from outside: the middleware begins and finishes, the page has only a form."""

from __future__ import annotations

import secrets

from flask import Flask, abort, redirect, request, session
from shared import EMPLOYERS, connections_now, forged, home_page, serve, signed_in
from werkzeug.wrappers import Response

from finch_middleware import CallbackRequest, Customer, FinchConnect, FinchMiddleware


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Lax")

    def customer_of(request: CallbackRequest) -> Customer | None:
        with app.request_context(dict(request.environ)):
            return signed_in(session)

    finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")
    app.wsgi_app = FinchMiddleware(app.wsgi_app, finch)  # type: ignore[method-assign]  # Flask's way

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

    return app


if __name__ == "__main__":
    serve(create_app)
