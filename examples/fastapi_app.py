"""FastAPI: the middleware answers the callback; a view begins the flow."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from shared import EMPLOYERS, finch_options, forged, home_page
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import Response

from finch_middleware import Away, CallbackRequest, FinchConnect
from finch_middleware.adapters.asgi import FinchASGIMiddleware, environ_of, to_starlette

Token = Annotated[str, Form()]


def customer_of(request: CallbackRequest) -> str | None:
    """The signed-in customer: Starlette's SessionMiddleware has left the session in the scope."""
    customer_id = request.environ["asgi.scope"]["session"].get("customer_id")
    return customer_id if customer_id in EMPLOYERS else None


def create_app(address: str) -> FastAPI:
    """The application, for browsers that find it at *address*."""
    app = FastAPI()
    finch = FinchConnect(**finch_options(address, customer_of=customer_of))
    app.add_middleware(FinchASGIMiddleware, finch=finch)
    # What is added later stands around: the session is there when ours asks for it.
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(32), same_site="lax")

    def refuse_forged(request: Request, token: str) -> None:
        if forged(token, expected=request.session.get("csrf_token")):
            raise HTTPException(403)

    @app.get("/", response_class=HTMLResponse)
    def home(request: Request) -> str:
        return home_page(
            request.session.get("customer_id"),
            connections_of=finch.connections.for_customer,
            hint=request.query_params.get("finch"),
            csrf_token=request.session.setdefault("csrf_token", secrets.token_urlsafe()),
        )

    @app.post("/sign-in")
    def sign_in(request: Request, csrf_token: Token, customer_id: Token) -> Response:
        refuse_forged(request, csrf_token)
        request.session.clear()
        if customer_id in EMPLOYERS:
            request.session["customer_id"] = customer_id
        return RedirectResponse("/", 303)

    @app.post("/sign-out")
    def sign_out(request: Request, csrf_token: Token) -> Response:
        refuse_forged(request, csrf_token)
        request.session.clear()
        return RedirectResponse("/", 303)

    # Not "async def": what blocks runs in a thread.
    @app.post("/connect")
    def connect(request: Request, csrf_token: Token) -> Response:
        refuse_forged(request, csrf_token)
        customer_id = request.session.get("customer_id")
        if customer_id is None:
            raise HTTPException(403)
        try:
            opened = finch.begin(
                request=environ_of(request.scope),
                customer_id=customer_id,
                customer_name=EMPLOYERS[customer_id],
            )
        except Away as away:
            return to_starlette(away.response())
        return to_starlette(opened)

    return app


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    # Finch takes http for localhost alone, and cookies of localhost stay away from 127.0.0.1.
    address = f"http://localhost:{port}"
    print(f"Open {address}", flush=True)
    # An access log would hold whole addresses, and a callback's holds a code.
    uvicorn.run(create_app(address), host="127.0.0.1", port=port, access_log=False)
