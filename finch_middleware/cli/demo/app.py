"""The demo's application: one page with a button and a list. A cookie replaces the login."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template

from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from finch_middleware import CannotOpen, Connection, FinchConnect, FinchRefused, Unavailable
from finch_middleware.web.pages import protected

EMPLOYERS = {"demo-acme": "Acme Inc.", "demo-globex": "Globex Corp."}
ACME, GLOBEX = EMPLOYERS
_OTHER = {ACME: GLOBEX, GLOBEX: ACME}
COOKIE = "demo-employer"
WEBHOOK_PATH = "/finch/webhook"

#: Messages for the parameter `finch` of the URL. Anybody can type it: it proves nothing.
BANNERS = {
    "connected": "Your payroll is connected.",
    "finishing": "Finch Connect is done. Your payroll will appear here in a moment.",
    "declined": "Nothing new was connected. You can start again at any time.",
    "disconnected": "Your payroll is disconnected.",
    "refused": "Finch refused this. The application's log has the reason.",
}
_NONE = '<li class="none">No payroll is connected yet.</li>'

logger = logging.getLogger("finch_middleware.demo")


class DemoApp:
    """The application. `FinchMiddleware` wraps its `wsgi_app`."""

    def __init__(self, finch: FinchConnect, *, notice: str) -> None:
        self._finch = finch
        self._notice = notice
        self._page = Template(resources.files(__package__).joinpath("app.html").read_text("utf-8"))
        self.wsgi_app = Request.application(self._respond)

    def _respond(self, request: Request) -> Response:
        employer = GLOBEX if request.cookies.get(COOKIE) == GLOBEX else ACME
        try:
            if request.path == "/":
                return self._show_page(employer, request.args)
            return self._act(request, employer)
        except Unavailable as unavailable:
            return unavailable.response()
        except FinchRefused as refused:
            logger.warning("Finch refused %s: %s, %s", request.path, refused, refused.name)
            return self._show_page(employer, {"finch": "refused"}, status=502)

    def _act(self, request: Request, employer: str) -> Response:
        if request.method != "POST" or request.path not in ("/connect", "/disconnect", "/employer"):
            raise NotFound
        # A browser states which site a form is from, and no site can change that.
        if request.headers.get("Origin") != request.host_url.rstrip("/"):
            raise Forbidden("This form is from another site.")
        if request.path == "/connect":
            name = EMPLOYERS[employer]
            return self._finch.begin(request=request, customer_id=employer, customer_name=name)
        if request.path == "/disconnect":
            connection_id = request.form.get("connection_id", "")
            self._finch.connections.disconnect(connection_id, customer_id=employer)
            return redirect("/?finch=disconnected", 303)
        response = redirect("/", 303)
        response.set_cookie(COOKIE, _OTHER[employer], httponly=True, samesite="Lax")
        return response

    def _show_page(self, employer: str, args: Mapping[str, str], status: int = 200) -> Response:
        connections = self._finch.connections.for_customer(employer)
        hint, nonce = args.get("finch", ""), secrets.token_urlsafe(16)
        banner = f'<p class="banner {hint}" role="status">{BANNERS.get(hint)}</p>'
        html = self._page.substitute(
            banner=banner if hint in BANNERS else "",
            button="Connect again" if connections else "Connect payroll",
            button_kind="quiet" if connections else "primary",
            connections="".join(map(_list_item, connections)) or _NONE * (hint != "finishing"),
            employer=EMPLOYERS[employer],
            nonce=nonce,
            notice=escape(self._notice),
            other=EMPLOYERS[_OTHER[employer]],
        )
        return protected(
            html,
            status=status,
            nonce=nonce,
            form_action="*",  # browsers also apply it to the redirect that leads to Finch
            referrer="same-origin",  # for the Origin of the forms
        )


def masked(secret: str) -> str:
    """Enough of a secret to recognise it on a screen, not enough to use it."""
    return f"{secret[:4]}... ({len(secret)} characters)"


def _list_item(connection: Connection) -> str:
    provider = connection.provider_id.replace("_", " ").title()
    products = ", ".join(connection.products).replace("_", " ")
    try:
        # A real application reveals the token only to call Finch; this one proves that it opens.
        token = masked(connection.access_token.reveal())
    except CannotOpen:
        token = "encrypted with the key of another run"
    return (
        f'<li><strong class="provider">{escape(provider)}</strong><span>{escape(products)}</span>'
        f"<span>connected {connection.obtained_at:%d %B %Y, %H:%M:%S UTC}</span>"
        f'<span>token <code class="token">{token}</code></span>'
        f'<span>status <code class="status">{escape(connection.status or "unknown")}</code></span>'
        "<details><summary>Disconnect</summary>This cannot be undone. "
        '<form method="post" action="/disconnect"><input type="hidden" name="connection_id" '
        f'value="{escape(connection.connection_id)}"><button class="quiet">Disconnect now</button>'
        "</form></details></li>"
    )
