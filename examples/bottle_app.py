"""Bottle: the callback is a route; the session comes from a middleware around it."""

from __future__ import annotations

import secrets
from typing import Any
from wsgiref.types import WSGIApplication

from bare import SignedSessions
from bottle import Bottle, HTTPResponse, abort, request  # type: ignore[import-untyped]  # no types
from shared import EMPLOYERS, finch_options, forged, home_page, serve
from werkzeug.wrappers import Response

from finch_middleware import Away, FinchConnect


def create_app(address: str) -> WSGIApplication:
    """The application, for browsers that find it at *address*."""
    finch = FinchConnect(**finch_options(address))

    def refuse_forged_forms() -> None:
        token, expected = request.forms.getunicode("csrf_token"), session()["csrf_token"]
        if request.method == "POST" and forged(token, expected=expected):
            abort(403)

    def home() -> str:
        customer_id, token = session().get("customer_id"), session()["csrf_token"]
        listed, hint = finch.connections.for_customer, request.query.getunicode("finch")
        return home_page(customer_id, connections_of=listed, hint=hint, csrf_token=token)

    def sign_in_or_out() -> HTTPResponse:
        session().clear()
        if request.forms.get("customer_id") in EMPLOYERS:
            session()["customer_id"] = request.forms["customer_id"]
        return HTTPResponse(status=303, Location="/")

    def connect() -> HTTPResponse:
        customer_id = session().get("customer_id") or abort(403)
        name = EMPLOYERS[customer_id]
        try:
            opened = finch.begin(request=request, customer_id=customer_id, customer_name=name)
            return as_bottle(opened)
        except Away as away:
            return as_bottle(away.response())

    def callback() -> HTTPResponse:
        return as_bottle(finch.callback(request, customer_id=session().get("customer_id")))

    app = Bottle()
    app.add_hook("before_request", refuse_forged_forms)
    app.route("/", "GET", home)
    app.route(["/sign-in", "/sign-out"], "POST", sign_in_or_out)
    app.route("/connect", "POST", connect)
    app.route("/finch/callback", "GET", callback)
    return SignedSessions(app, key=secrets.token_bytes(32))


def session() -> Any:
    return request.environ["session"]


def as_bottle(answer: Response) -> HTTPResponse:
    return HTTPResponse(answer.get_data(), answer.status_code, list(answer.headers.items()))


if __name__ == "__main__":
    serve(create_app)
