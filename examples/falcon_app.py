"""Falcon: the callback is a resource; the session comes from a middleware around it."""

from __future__ import annotations

import secrets
from wsgiref.types import WSGIApplication

from bare import SignedSessions
from falcon import MEDIA_HTML, App, HTTPForbidden, HTTPSeeOther, Request, Response
from shared import EMPLOYERS, finch_options, forged, home_page, serve
from werkzeug.wrappers import Response as Answer

from finch_middleware import Away, FinchConnect


class RefuseForgedForms:
    def process_request(self, req: Request, resp: Response) -> None:
        session = req.context.session = req.env["session"]
        form = req.get_media({}) if req.method == "POST" else session
        if forged(form.get("csrf_token"), expected=session["csrf_token"]):
            raise HTTPForbidden


def create_app(address: str) -> WSGIApplication:
    """The application, for browsers that find it at *address*."""
    finch = FinchConnect(**finch_options(address))

    class Payroll:
        def on_get(self, req: Request, resp: Response) -> None:
            session, hint = req.context.session, req.get_param("finch")
            listed, token = finch.connections.for_customer, session["csrf_token"]
            customer_id = session.get("customer_id")
            page = home_page(customer_id, connections_of=listed, hint=hint, csrf_token=token)
            resp.content_type, resp.text = MEDIA_HTML, page

        def on_post_sign(self, req: Request, resp: Response) -> None:
            req.context.session.clear()
            if (customer_id := req.get_media().get("customer_id")) in EMPLOYERS:
                req.context.session["customer_id"] = customer_id
            raise HTTPSeeOther("/")

        def on_post_connect(self, req: Request, resp: Response) -> None:
            if (customer_id := req.context.session.get("customer_id")) is None:
                raise HTTPForbidden
            name = EMPLOYERS[customer_id]
            send(finch.begin(request=req, customer_id=customer_id, customer_name=name), resp)

        def on_get_callback(self, req: Request, resp: Response) -> None:
            send(finch.callback(req, customer_id=req.context.session.get("customer_id")), resp)

    app = App(middleware=[RefuseForgedForms()])
    app.add_error_handler(Away, lambda req, resp, away, _: send(away.response(), resp))
    for suffix, path in ((None, "/"), ("sign", "/sign-in"), ("sign", "/sign-out")):
        app.add_route(path, Payroll(), suffix=suffix)
    app.add_route("/connect", Payroll(), suffix="connect")
    app.add_route("/finch/callback", Payroll(), suffix="callback")
    return SignedSessions(app, key=secrets.token_bytes(32))


def send(answer: Answer, resp: Response) -> None:
    resp.status, resp.data = answer.status, answer.get_data()
    for name, value in answer.headers.items():
        resp.append_header(name, value)


if __name__ == "__main__":
    serve(create_app)
