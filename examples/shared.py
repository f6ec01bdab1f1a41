"""
What the examples share: two employers, two pages, a server, and a fake Finch to try them with.

None of it is needed to connect an employer: that stands in each example.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import os
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware import Connection, Customer, FinchConnect, FinchError, FinchRefused
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

if TYPE_CHECKING:
    from starlette.types import ASGIApp

EMPLOYERS = {
    "acme": Customer(id="acme", name="Acme Inc."),
    "globex": Customer(id="globex", name="Globex Ltd."),
}

#: Where a browser gets Finch's script for the embedded flow.
SDK_URL = os.environ.get("FINCH_SDK_URL", "https://prod-cdn.tryfinch.com/latest/connect.js")

_PATIENCE_SECONDS = 2
_asking = ThreadPoolExecutor(max_workers=4, thread_name_prefix="status")

_PROVIDERS = {"adp_run": "ADP Run", "bamboo_hr": "BambooHR", "quickbooks_payroll": "QuickBooks"}
#: Finch's words that say little to a payroll administrator; it may have others tomorrow.
_STATUSES = {
    "reauth": "wants to be connected again",
    "error_no_account_setup": "has no account set up",
    "error_permissions": "lacks permissions",
}
_BANNERS = {
    "connected": "You are connected.",
    "declined": "You left before the connection was made. Nothing has changed.",
    "finishing": "Almost done: your connection is safe and will stand here in a moment. "
    '<a href="">Look again</a>',
}


def signed_in(session: Mapping[str, Any]) -> Customer | None:
    """The employer of a login. In earnest it would come from your database."""
    return EMPLOYERS.get(session.get("customer_id", ""))


def connections_now(finch: FinchConnect, customer: Customer | None) -> list[Connection]:
    """
    A customer's connections, each with Finch's present word on it; nobody's are none.

    A page waits two seconds at most for Finch. Where Finch is slow or away, the word that it
    gave last stands.
    """
    if customer is None:
        return []
    known = finch.connections.for_customer(customer.id)
    asked = [_asking.submit(_renewed, finch, connection) for connection in known]
    answered, _ = wait(asked, timeout=_PATIENCE_SECONDS)
    pairs = zip(known, asked, strict=True)
    listed = [ask.result() if ask in answered else connection for connection, ask in pairs]
    return [connection for connection in listed if connection is not None]


def _renewed(finch: FinchConnect, connection: Connection) -> Connection | None:
    """None, if it was removed meanwhile."""
    connection_id, customer_id = connection.connection_id, connection.customer_id
    try:
        return finch.connections.refresh(connection_id, customer_id=customer_id)
    except FinchRefused:  # Finch does not take the token any more
        return dataclasses.replace(connection, status="disconnected")
    except FinchError:
        return connection


def forged(token: str | None, *, expected: str | None) -> bool:
    """Whether a form was not sent by a page of ours: its token is not the session's."""
    return not expected or not hmac.compare_digest((token or "").encode(), expected.encode())


def home_page(
    customer: Customer | None,
    *,
    connections: Collection[Connection],
    hint: str | None,
    csrf_token: str,
    csrf_field: str = "csrf_token",
) -> str:
    """
    The signed-in employer's connections, or the way to sign in.

    *hint* is the query's ``finch``: a wish for a message, never evidence.
    """
    token = f'<input type="hidden" name="{escape(csrf_field)}" value="{escape(csrf_token)}">'
    if customer is None:
        return _sign_in_page(token)
    body = _look(
        "connections.html",
        banner=_banner(hint, connections),
        connections="" if hint == "finishing" and not connections else _listed(connections),
        token=token,
        verb="Connect again" if connections else "Connect payroll",
    )
    sign_out = f'<form method="post" action="/sign-out">{token}<button>Sign out</button></form>'
    name = escape(customer.name)
    return _look("page.html", title=f"Payroll of {name}", head=name, sign_out=sign_out, body=body)


def embedded(page: str) -> str:
    """*page* with the scripts of the embedded flow: Finch's own, and ``embedded/connect.js``."""
    return page.replace("</head>", _look("embedded.html", sdk=SDK_URL) + "</head>")


def serve(make_app: Callable[[], WSGIApplication]) -> None:
    """Serve what *make_app* makes, to this machine alone, until Ctrl-C."""
    with _listening() as listening:
        port = listening.getsockname()[1]
        address = stand_in_for_finch(port)
        server = make_server(
            "127.0.0.1",
            port,
            make_app(),
            threaded=True,
            request_handler=_Handler,
            fd=listening.fileno(),
        )
    print(f"Open {address}", flush=True)
    server.serve_forever()


def serve_asgi(make_app: Callable[[], ASGIApp]) -> None:
    """The same for ASGI, with uvicorn."""
    import uvicorn

    with _listening() as listening, contextlib.suppress(KeyboardInterrupt):
        address = stand_in_for_finch(listening.getsockname()[1])
        # An access log would hold whole addresses, and a callback's holds a code.
        server = uvicorn.Server(uvicorn.Config(make_app(), access_log=False, log_level="warning"))
        print(f"Open {address}", flush=True)
        server.run(sockets=[listening])


def stand_in_for_finch(port: int) -> str:
    """
    Where a browser finds the application; from now on a fake Finch answers it.

    What the ``FINCH_…`` variables do not say is then said for that fake: the one at
    FINCH_API_URL, or else one that starts in this process. With FINCH_CLIENT_ID set, nothing
    is changed.
    """
    # Finch takes http for localhost alone, and cookies of localhost stay away from 127.0.0.1.
    address = f"http://localhost:{port}"
    if os.environ.get("FINCH_CLIENT_ID"):
        return address
    fake = FakeFinch()
    api_url = os.environ.get("FINCH_API_URL") or fake.start().api_url
    variables = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": f"{address}/finch/callback",
        "FINCH_PRODUCTS": "company, directory",
        "FINCH_STORAGE_URL": "memory://",
        "FINCH_KEY": new_key("demo"),
        "FINCH_API_URL": api_url,
        "FINCH_CONNECT_ORIGIN": api_url,
    }
    os.environ.update({k: v for k, v in variables.items() if not os.environ.get(k)})
    return address


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "8000"))))


class _Handler(WSGIRequestHandler):
    """One request, logged without its query: a callback's holds a code."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.log("info", "%s %s %s", self.command, self.path.partition("?")[0], code)


def _sign_in_page(token: str) -> str:
    # In earnest it would want a password.
    employers = "\n".join(
        f'<button class="quiet" name="customer_id" value="{escape(customer_id)}">'
        f"{escape(customer.name)}</button>"
        for customer_id, customer in EMPLOYERS.items()
    )
    body = _look("sign_in.html", token=token, employers=employers)
    return _look("page.html", title="Sign in", head="Demonstration", sign_out="", body=body)


def _banner(hint: str | None, connections: Collection[Connection]) -> str:
    if hint not in _BANNERS or (hint == "connected" and not connections):
        return ""
    return f'<p class="banner {hint}" role="status">{_BANNERS[hint]}</p>'


def _listed(connections: Collection[Connection]) -> str:
    if not connections:
        return '<p class="lead">Nothing is connected yet.</p>'
    return f'<ul class="connections">{"".join(map(_item, connections))}</ul>'


def _item(connection: Connection) -> str:
    provider_id, since = connection.provider_id, connection.obtained_at
    name = _PROVIDERS.get(provider_id, provider_id.replace("_", " ").title())
    in_order = connection.status in (None, "connected")
    word = _STATUSES.get(connection.status or "", connection.status or "")
    status = "" if in_order else f' <span class="attention">{escape(word)}</span>'
    return (
        f"<li><strong>{escape(name)}</strong>{status}"
        f"<p>{escape(', '.join(connection.products))}</p>"
        f'<p>since <time datetime="{since.isoformat(timespec="seconds")}">'
        f"{since:%-d %B %Y, %H:%M} UTC</time></p></li>"
    )


def _look(template: str, **parts: str) -> str:
    look = Path(__file__).with_name("look") / template
    return Template(look.read_text(encoding="utf-8")).substitute(parts)
