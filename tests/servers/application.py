"""What every server serves: the middleware around a little application, WSGI's and ASGI's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from finch_middleware import Customer, FinchConnect, FinchMiddleware
from finch_middleware.adapters import asgi
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.web import body
from tests.delivering import RECEIVING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BEGIN = "/connect"
CALLBACK = "/finch/callback"


def _finch() -> FinchConnect:
    # Hours, so that a page which waits for a body never comes.
    body.BODY_SECONDS = asgi.BODY_SECONDS = float(os.environ["BODY_SECONDS"])
    return FinchConnect.from_env(
        products=["company", "directory"],
        exchange_deadline=timedelta(seconds=20),
        storage="memory://",
        key=new_key("k1"),
        begin_path=BEGIN,
        **RECEIVING,
        customer_of=lambda request: Customer(id="acme", name="Acme Inc."),
    )


def _application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Counts the body that it gets: what is not ours passes whole."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"the application got {len(body)}".encode()]


async def _asgi_application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": f"the application got {size}".encode()})


if "FINCH_REDIRECT_URI" in os.environ:
    application = FinchMiddleware(_application, _finch())
    asgi_application = FinchASGIMiddleware(_asgi_application, application.finch)
