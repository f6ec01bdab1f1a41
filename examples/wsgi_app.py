"""WSGI and nothing else: no framework, and werkzeug only to serve it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bare import SignedSessions, answer, form_of, query_of
from shared import EMPLOYERS, finch_options, forged, home_page, serve

from finch_middleware import Away, FinchConnect, FinchMiddleware


def create_app(address: str) -> WSGIApplication:
    """The application, for browsers that find it at *address*."""
    finch = FinchConnect(
        **finch_options(
            address, customer_of=lambda request: request.environ["session"].get("customer_id")
        )
    )

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return view(environ)(environ, start_response)
        except Away as away:
            return away.response()(environ, start_response)

    def view(environ: WSGIEnvironment) -> WSGIApplication:
        session, form = environ["session"], form_of(environ)
        token, customer_id = session["csrf_token"], session.get("customer_id")
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "POST", _ if forged(form.get("csrf_token"), expected=token):
                return answer("403 Forbidden")
            case "GET", "/":
                listed, hint = finch.connections.for_customer, query_of(environ).get("finch")
                page = home_page(customer_id, connections_of=listed, hint=hint, csrf_token=token)
                return answer("200 OK", body=page)
            case "POST", "/sign-in" | "/sign-out":
                session.clear()
                if form.get("customer_id") in EMPLOYERS:
                    session["customer_id"] = form["customer_id"]
                return answer("303 See Other", location="/")
            case "POST", "/connect" if customer_id:
                name = EMPLOYERS[customer_id]
                return finch.begin(request=environ, customer_id=customer_id, customer_name=name)
            case "POST", "/connect":
                return answer("403 Forbidden")
        return answer("404 Not Found")

    return SignedSessions(FinchMiddleware(app, finch), key=secrets.token_bytes(32))


if __name__ == "__main__":
    serve(create_app)
