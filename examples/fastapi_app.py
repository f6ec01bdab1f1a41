"""FastAPI: the middleware begins and finishes, in threads of its own."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from shared import EMPLOYERS, connections_now, forged, home_page, serve_asgi, signed_in
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import Response

from finch_middleware import CallbackRequest, Customer, FinchConnect
from finch_middleware.adapters.asgi import FinchASGIMiddleware

Field = Annotated[str, Form()]


def create_app() -> FastAPI:
    """The application."""
    app = FastAPI()
    finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")
    app.add_middleware(FinchASGIMiddleware, finch=finch)
    # What is added later stands around: the session is there when ours asks for it.
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(32), same_site="lax")

    # Not "async def": what blocks runs in a thread.
    @app.get("/", response_class=HTMLResponse)
    def home(request: Request) -> str:
        customer = signed_in(request.session)
        token = request.session.setdefault("csrf_token", secrets.token_urlsafe())
        listed, hint = connections_now(finch, customer), request.query_params.get("finch")
        return home_page(customer, connections=listed, hint=hint, csrf_token=token)

    @app.post("/sign-in")
    @app.post("/sign-out")
    def sign_in_or_out(
        request: Request, csrf_token: Field = "", customer_id: Field = ""
    ) -> Response:
        if forged(csrf_token, expected=request.session.get("csrf_token")):
            raise HTTPException(403)
        request.session.clear()
        if customer_id in EMPLOYERS:
            request.session["customer_id"] = customer_id
        return RedirectResponse("/", 303)

    return app


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(request.environ["asgi.scope"]["session"])


if __name__ == "__main__":
    serve_asgi(create_app)
