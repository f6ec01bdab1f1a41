"""Falcon: the middleware begins and finishes; the session comes from a middleware around both."""

from __future__ import annotations

import secrets
from wsgiref.types import WSGIApplication

from bare import SignedSessions
from falcon import MEDIA_HTML, App, HTTPForbidden, HTTPSeeOther, Request, Response
from shared import EMPLOYERS, connections_now, forged, home_page, serve, signed_in

from finch_middleware import CallbackRequest, Customer, FinchConnect, FinchMiddleware


class RefuseForgedForms:
    def process_request(self, req: Request, resp: Response) -> None:
        session = req.context.session = req.env["session"]
        form = req.get_media({}) if req.method == "POST" else session
        if forged(form.get("csrf_token"), expected=session["csrf_token"]):
            raise HTTPForbidden


def create_app() -> WSGIApplication:
    """The application."""
    finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")

    class Payroll:
        def on_get(self, req: Request, resp: Response) -> None:
            customer, token = signed_in(req.context.session), req.context.session["csrf_token"]
            listed, hint = connections_now(finch, customer), req.get_param("finch")
            page = home_page(customer, connections=listed, hint=hint, csrf_token=token)
            resp.content_type, resp.text = MEDIA_HTML, page

        def on_post_sign(self, req: Request, resp: Response) -> None:
            req.context.session.clear()
            if (customer_id := req.get_media().get("customer_id")) in EMPLOYERS:
                req.context.session["customer_id"] = customer_id
            raise HTTPSeeOther("/")

    app = App(middleware=[RefuseForgedForms()])
    for suffix, path in ((None, "/"), ("sign", "/sign-in"), ("sign", "/sign-out")):
        app.add_route(path, Payroll(), suffix=suffix)
    return SignedSessions(FinchMiddleware(app, finch), key=secrets.token_bytes(32))


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(request.environ["session"])


if __name__ == "__main__":
    serve(create_app)
