"""WSGI and nothing else: no framework, and werkzeug only to serve it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bare import SignedSessions, answer, form_of, query_of
from shared import EMPLOYERS, connections_now, forged, home_page, serve, signed_in

from finch_middleware import CallbackRequest, Customer, FinchConnect, FinchMiddleware


def create_app() -> WSGIApplication:
    """The application."""
    finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return view(environ)(environ, start_response)

    def view(environ: WSGIEnvironment) -> WSGIApplication:
        session, form = environ["session"], form_of(environ)
        token, customer = session["csrf_token"], signed_in(session)
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "POST", _ if forged(form.get("csrf_token"), expected=token):
                return answer("403 Forbidden")
            case "GET", "/":
                listed, hint = connections_now(finch, customer), query_of(environ).get("finch")
                page = home_page(customer, connections=listed, hint=hint, csrf_token=token)
                return answer("200 OK", body=page)
            case "POST", "/sign-in" | "/sign-out":
                session.clear()
                if form.get("customer_id") in EMPLOYERS:
                    session["customer_id"] = form["customer_id"]
                return answer("303 See Other", location="/")
        return answer("404 Not Found")

    return SignedSessions(FinchMiddleware(app, finch), key=secrets.token_bytes(32))


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(request.environ["session"])


if __name__ == "__main__":
    serve(create_app)
