"""Bottle: two routes are Finch's; the session comes from a middleware around the application."""

from __future__ import annotations

import secrets
from typing import Any
from wsgiref.types import WSGIApplication

from bare import SignedSessions
from bottle import Bottle, HTTPResponse, abort, request
from shared import EMPLOYERS, connections_now, forged, home_page, serve, signed_in

from finch_middleware import FinchConnect, Response


def create_app() -> WSGIApplication:
    """The application."""
    finch = FinchConnect.from_env(customer_of=lambda request: signed_in(session()))

    def refuse_forged_forms() -> None:
        token, expected = request.forms.getunicode("csrf_token"), session()["csrf_token"]
        if request.method == "POST" and forged(token, expected=expected):
            abort(403)

    def home() -> str:
        customer, token = signed_in(session()), session()["csrf_token"]
        listed, hint = connections_now(finch, customer), request.query.getunicode("finch")
        return home_page(customer, connections=listed, hint=hint, csrf_token=token)

    def sign_in_or_out() -> HTTPResponse:
        session().clear()
        if request.forms.get("customer_id") in EMPLOYERS:
            session()["customer_id"] = request.forms["customer_id"]
        return HTTPResponse(status=303, Location="/")

    app = Bottle()
    app.add_hook("before_request", refuse_forged_forms)
    app.route("/", "GET", home)
    app.route(["/sign-in", "/sign-out"], "POST", sign_in_or_out)
    app.route("/connect", "POST", lambda: as_bottle(finch.begin_page(request)))
    app.route("/finch/callback", "GET", lambda: as_bottle(finch.callback(request)))
    return SignedSessions(app, key=secrets.token_bytes(32))


def session() -> Any:
    return request.environ["session"]


def as_bottle(answer: Response) -> HTTPResponse:
    return HTTPResponse(answer.get_data(), answer.status_code, list(answer.headers.items()))


if __name__ == "__main__":
    serve(create_app)
