"""What the examples share: two employers, two pages, a server, and Finch's options."""

from __future__ import annotations

import hmac
import os
import socket
from collections.abc import Callable, Collection
from html import escape
from pathlib import Path
from string import Template
from typing import Unpack
from wsgiref.types import WSGIApplication

from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware import Connection
from finch_middleware.options import Options, new_key, options_from_env
from finch_middleware.testing.fake_finch import FakeFinch

EMPLOYERS = {"acme": "Acme Inc.", "globex": "Globex Ltd."}
CALLBACK_PATH = "/finch/callback"

_PROVIDERS = {"adp_run": "ADP Run", "bamboo_hr": "BambooHR", "quickbooks_payroll": "QuickBooks"}
_BANNERS = {
    "connected": "You are connected.",
    "declined": "You left before the connection was made. Nothing has changed.",
    "finishing": "Almost done: your connection is safe and will stand here in a moment. "
    '<a href="">Look again</a>',
}


def finch_options(address: str, **more: Unpack[Options]) -> Options:
    """
    What the ``FINCH_…`` variables say; without FINCH_CLIENT_ID, what suits a fake Finch.

    That fake is the one at FINCH_API_URL, or else one that starts in this process.
    *address* is where a browser finds the application; *more* is added as it is.
    """
    given: Options = {**options_from_env(), **more}
    if "client_id" in given:
        return given
    fake = FakeFinch()
    api_url = given.get("api_url") or fake.start().api_url
    return {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "redirect_uri": address + CALLBACK_PATH,
        "products": ["company", "directory"],
        "storage": "memory://",
        "key": new_key("demo"),
        "api_url": api_url,
        "connect_origin": api_url,
        **given,
    }


def forged(token: str | None, *, expected: str | None) -> bool:
    """Whether a form was not sent by a page of ours: its token is not the session's."""
    return not expected or not hmac.compare_digest((token or "").encode(), expected.encode())


def home_page(
    customer_id: str | None,
    *,
    connections_of: Callable[[str], Collection[Connection]],
    hint: str | None,
    csrf_token: str,
    csrf_field: str = "csrf_token",
) -> str:
    """
    The signed-in employer's connections, or the way to sign in.

    *hint* is the query's ``finch``: a wish for a message, never evidence.
    """
    token = f'<input type="hidden" name="{escape(csrf_field)}" value="{escape(csrf_token)}">'
    if customer_id is None:
        return _sign_in_page(token)
    connections = connections_of(customer_id)
    body = _look(
        "connections.html",
        banner=_banner(hint, connections),
        connections="" if hint == "finishing" and not connections else _listed(connections),
        token=token,
        verb="Connect again" if connections else "Connect payroll",
    )
    sign_out = f'<form method="post" action="/sign-out">{token}<button>Sign out</button></form>'
    name = escape(EMPLOYERS[customer_id])
    return _look("page.html", title=f"Payroll of {name}", head=name, sign_out=sign_out, body=body)


def serve(make_app: Callable[[str], WSGIApplication]) -> None:
    """Serve what *make_app* makes for its address, to this machine alone, until Ctrl-C."""
    with socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "8000")))) as listening:
        port = listening.getsockname()[1]
        # Finch takes http for localhost alone, and cookies of localhost stay away from 127.0.0.1.
        address = f"http://localhost:{port}"
        server = make_server(
            "127.0.0.1",
            port,
            make_app(address),
            threaded=True,
            request_handler=_Handler,
            fd=listening.fileno(),
        )
    print(f"Open {address}", flush=True)
    server.serve_forever()


class _Handler(WSGIRequestHandler):
    """One request, logged without its query: a callback's holds a code."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.log("info", "%s %s %s", self.command, self.path.partition("?")[0], code)


def _sign_in_page(token: str) -> str:
    # In earnest it would want a password.
    employers = "\n".join(
        f'<button class="quiet" name="customer_id" value="{escape(customer_id)}">'
        f"{escape(name)}</button>"
        for customer_id, name in EMPLOYERS.items()
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
    status = (
        "" if in_order else f' <span class="attention">{escape(connection.status or "")}</span>'
    )
    return (
        f"<li><strong>{escape(name)}</strong>{status}"
        f"<p>{escape(', '.join(connection.products))}</p>"
        f'<p>since <time datetime="{since.isoformat(timespec="seconds")}">'
        f"{since:%-d %B %Y, %H:%M} UTC</time></p></li>"
    )


def _look(template: str, **parts: str) -> str:
    look = Path(__file__).with_name("look") / template
    return Template(look.read_text(encoding="utf-8")).substitute(parts)
