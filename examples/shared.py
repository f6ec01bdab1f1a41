"""
The look of the examples, a server, and a fake Finch to try them with.

No application needs it: replace `home_page` with a template of your own.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Collection
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware import Connection, Customer
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_PROVIDERS = {"adp_run": "ADP Run", "bamboo_hr": "BambooHR", "quickbooks_payroll": "QuickBooks"}
#: Finch's statuses that a payroll administrator would not understand; others are shown as they are.
_STATUSES = {
    "reauth": "has to be connected again",
    "error_no_account_setup": "has no account set up",
    "error_permissions": "lacks permissions",
}
_BANNERS = {
    "connected": "You are connected.",
    "declined": "You left before the connection was made. Nothing has changed.",
    "finishing": "Almost done: your connection is safe and will appear here in a moment. "
    '<a href="">Reload</a>',
}


def home_page(
    customer: Customer | None,
    *,
    connections: Collection[Connection],
    hint: str | None,
    csrf_token: str,
    csrf_field: str = "csrf_token",
) -> str:
    """
    The signed-in employer's connections, or the buttons to sign in.

    *hint* is the query's ``finch``: it only chooses a message, because anybody can send it.
    """
    token = f'<input type="hidden" name="{escape(csrf_field)}" value="{escape(csrf_token)}">'
    if customer is None:
        body = _look("sign_in.html", token=token)
        return _look("page.html", title="Sign in", head="Demonstration", sign_out="", body=body)
    body = _look(
        "connections.html",
        banner=_banner(hint, connections),
        connections="" if hint == "finishing" and not connections else _listed(connections),
        token=token,
        verb="Connect again" if connections else "Connect payroll",
        kind="quiet" if connections and all(map(_in_order, connections)) else "primary",
    )
    sign_out = f'<form method="post" action="/sign-out">{token}<button>Sign out</button></form>'
    name = escape(customer.name)
    return _look("page.html", title=f"Payroll of {name}", head=name, sign_out=sign_out, body=body)


def serve(make_app: Callable[[], WSGIApplication]) -> None:
    """Serve the application that *make_app* makes on this machine until Ctrl-C."""
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
    """The same for an ASGI application, with uvicorn."""
    import uvicorn

    with _listening() as listening, contextlib.suppress(KeyboardInterrupt):
        address = stand_in_for_finch(listening.getsockname()[1])
        # An access log would contain whole URLs, and a callback's URL contains a code.
        server = uvicorn.Server(uvicorn.Config(make_app(), access_log=False, log_level="warning"))
        print(f"Open {address}", flush=True)
        server.run(sockets=[listening])


def stand_in_for_finch(port: int) -> str:
    """
    The application's URL; the application then talks to a fake Finch.

    Sets each missing ``FINCH_…`` variable for the fake at FINCH_API_URL, or else for one that it
    starts in this process. Changes nothing if FINCH_CLIENT_ID is set.
    """
    # Finch accepts http only for localhost, whose cookies a browser does not send to 127.0.0.1.
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
    """Logs each request without its query, because a callback's query contains a code."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.log("info", "%s %s %s", self.command, self.path.partition("?")[0], code)


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
    words = _STATUSES.get(connection.status or "", connection.status or "")
    status = "" if _in_order(connection) else f' <span class="attention">{escape(words)}</span>'
    return (
        f"<li><strong>{escape(name)}</strong>{status}"
        f"<p>{escape(', '.join(connection.products))}</p>"
        f'<p>since <time datetime="{since.isoformat(timespec="seconds")}">'
        f"{since:%-d %B %Y, %H:%M} UTC</time></p></li>"
    )


def _in_order(connection: Connection) -> bool:
    return connection.status in (None, "connected")


def _look(template: str, **parts: str) -> str:
    look = Path(__file__).with_name("look") / template
    return Template(look.read_text(encoding="utf-8")).substitute(parts)
