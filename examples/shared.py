"""
The look of the examples, a server, and a fake Finch to try them with.

No application needs it: replace the pages with templates of your own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
from collections.abc import Callable, Collection
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote
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
    "pending": "is being set up",
    "processing": "loads its first data",
    "reauth": "needs a new sign-in",
    "error_no_account_setup": "has no account set up",
    "error_permissions": "lacks permissions",
}
_BANNERS = {
    "connected": "You are connected.",
    "disconnected": "Disconnected. No more data is read from that payroll.",
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
    token = _hidden(csrf_field, csrf_token)
    if customer is None:
        return _sign_in_page(token)
    verb = "Connect again" if connections else "Connect payroll"
    kind = "quiet" if connections and all(map(_in_order, connections)) else "primary"
    connect = _look("connect.html", token=token, verb=verb, kind=kind)
    listed = _listed(connections, hint=hint)
    return _page(customer, _banner(hint, connections), listed, connect, token=token)


def settings_page(
    customer: Customer | None,
    *,
    connections: Collection[Connection],
    hint: str | None,
    csrf_token: str,
) -> str:
    """
    `home_page` where each connection can be signed in to again, and disconnected.

    It loads itself again when the `state_of` the stored connections changes.
    """
    token = _hidden("csrf_token", csrf_token)
    if customer is None:
        return _sign_in_page(token)
    connect = _look("connect.html", token=token, verb="Connect payroll", kind="primary")
    connect += _look("invite.html", token=token)
    if any(each.status != "disconnected" for each in connections):
        connect = ""
    listed = _listed(connections, hint=hint, actions=functools.partial(_actions, token=token))
    live = _look("live.html", state=escape(state_of(connections)))
    return _page(customer, _banner(hint, connections), listed, connect + live, token=token)


def confirmation_page(customer: Customer, connection: Connection, *, csrf_token: str) -> str:
    """Asks whether *connection* is to end; its form is sent to the page's own address."""
    body = _look(
        "confirmation.html",
        customer=escape(customer.name),
        provider=escape(_provider(connection)),
        token=(token := _hidden("csrf_token", csrf_token)),
    )
    return _page(customer, body, token=token)


def invited_page(customer: Customer, link: str, *, csrf_token: str) -> str:
    """Shows the link for the person who can open the payroll."""
    body = _look("invited.html", customer=escape(customer.name), link=escape(link))
    return _page(customer, body, token=_hidden("csrf_token", csrf_token))


def state_of(connections: Collection[Connection]) -> str:
    """What can change while a settings page is open, as JSON."""
    return json.dumps(
        [
            [each.connection_id, each.status, [[one.id, one.status] for one in each.entities]]
            for each in connections
        ]
    )


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
    fake, webhook_secret = FakeFinch(), new_key("demo").partition(":")[2]
    api_url = os.environ.get("FINCH_API_URL")
    if not api_url:
        api_url = fake.start().api_url
        fake.deliver_webhooks(f"{address}/finch/webhook", secrets=[webhook_secret])
        change = '{"status": "reauth"}'
        print(f"To have Finch report a status: curl {api_url}/_fake/status --json '{change}'")
    variables = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": f"{address}/finch/callback",
        "FINCH_PRODUCTS": "company, directory",
        "FINCH_STORAGE_URL": "memory://",
        "FINCH_KEY": new_key("demo"),
        "FINCH_WEBHOOK_SECRETS": webhook_secret,
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
    if hint not in _BANNERS or (hint == "connected" and not any(map(_in_order, connections))):
        return ""
    return f'<p class="banner {hint}" role="status">{_BANNERS[hint]}</p>'


def _listed(
    connections: Collection[Connection],
    *,
    hint: str | None,
    actions: Callable[[Connection], str] = lambda connection: "",
) -> str:
    if not connections:
        empty = '<p class="lead">Nothing is connected yet.</p>'
        return "<h1>Payroll</h1>" + ("" if hint == "finishing" else empty)
    items = (_item(each, actions=actions(each)) for each in connections)
    return f'<h1>Payroll</h1><ul class="connections">{"".join(items)}</ul>'


def _item(connection: Connection, *, actions: str) -> str:
    since = connection.connected_at
    return (
        f"<li><strong>{escape(_provider(connection))}</strong>{_attention(connection.status)}"
        f"<p>{escape(', '.join(connection.products))}</p>"
        f'<p>since <time datetime="{since.isoformat(timespec="seconds")}">'
        f"{since:%-d %B %Y, %H:%M} UTC</time></p>{_entities(connection)}{actions}</li>"
    )


def _entities(connection: Connection) -> str:
    if len(connection.entities) < 2:
        return ""
    items = (
        f"<li>{escape(each.name or each.source_id or each.id)}{_attention(each.status)}</li>"
        for each in connection.entities
    )
    return f'<ul class="entities" aria-label="Entities">{"".join(items)}</ul>'


def _actions(connection: Connection, *, token: str) -> str:
    ended = connection.status == "disconnected"
    path = f"/connections/{quote(connection.connection_id, safe='')}"
    kind = "quiet" if _in_order(connection) else "primary"
    again = "" if ended else _look("sign_in_again.html", path=path, token=token, kind=kind)
    verb = "Remove" if ended else "Disconnect"
    return f'<div class="actions">{again}<a href="{path}/disconnect">{verb}</a></div>'


def _attention(status: str | None) -> str:
    """A label for a status that wants attention."""
    if status in (None, "connected"):
        return ""
    return f' <span class="attention">{escape(_STATUSES.get(status, status))}</span>'


def _provider(connection: Connection) -> str:
    provider_id = connection.provider_id
    return _PROVIDERS.get(provider_id, provider_id.replace("_", " ").title())


def _in_order(connection: Connection) -> bool:
    """Whether it needs no new login; an entity may have been disconnected on purpose."""
    entities = {each.status for each in connection.entities} - {"disconnected"}
    return {connection.status, *entities} <= {None, "connected", "pending", "processing"}


def _hidden(field: str, value: str) -> str:
    return f'<input type="hidden" name="{escape(field)}" value="{escape(value)}">'


def _sign_in_page(token: str) -> str:
    body = _look("sign_in.html", token=token)
    return _look("page.html", title="Sign in", head="Demonstration", sign_out="", body=body)


def _page(customer: Customer, *parts: str, token: str) -> str:
    sign_out = f'<form method="post" action="/sign-out">{token}<button>Sign out</button></form>'
    name, body = escape(customer.name), "\n".join(filter(None, parts))
    return _look("page.html", title=f"Payroll of {name}", head=name, sign_out=sign_out, body=body)


def _look(template: str, **parts: str) -> str:
    look = Path(__file__).with_name("look") / template
    return Template(look.read_text(encoding="utf-8")).substitute(parts)
