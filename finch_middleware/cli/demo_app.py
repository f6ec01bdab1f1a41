"""
The demo's application: one page, one button, one list. A small model of a real one.

What matters in it: the customer comes from the login (here a switch between two employers,
kept on the server), Connect is opened by a POST that proves its form, and the callback is
nowhere to be seen, because the middleware in front answers it.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
)
from werkzeug.wrappers import Request, Response

from finch_middleware import CannotOpen, Connection, FinchConnect, StorageUnavailable
from finch_middleware.errors import FinchRefused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

EMPLOYERS = {"demo-acme": "Acme Inc.", "demo-globex": "Globex Corp."}
COOKIE = "demo-visitor"

#: The hint `?finch=…` is for a message, never evidence: anybody can type it.
_BANNERS = {
    "connected": "Your payroll is connected.",
    "finishing": "Your payroll agreed. It will show up here in a moment.",
    "declined": "Nothing was connected. You can start again whenever you like.",
    "refused": "Finch did not open Connect. The application's log says why.",
}
_REFERENCE = re.compile(r"[A-Z2-7]{8}")
_METHODS = {"/": ["GET", "HEAD"], "/connect": ["POST"], "/employer": ["POST"]}
_VISITORS_LIMIT = 1000

logger = logging.getLogger("finch_middleware.demo")


def masked(secret: str) -> str:
    """Enough of a secret to recognise it on a screen, not enough to use it."""
    return f"{secret[:4]}... ({len(secret)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A browser that has been here, and the employer that it acts for."""

    visitor_id: str
    csrf_token: str
    employer_id: str

    @classmethod
    def new(cls, *, employer_id: str) -> Visitor:
        """A visitor with ids that nobody can guess."""
        return cls(
            visitor_id=secrets.token_urlsafe(24),
            csrf_token=secrets.token_urlsafe(24),
            employer_id=employer_id,
        )


class DemoApp:
    """The WSGI application; put `FinchMiddleware` in front of it."""

    def __init__(self, finch: FinchConnect, *, notice: str) -> None:
        self._finch = finch
        self._notice = notice
        self._visitors: dict[str, Visitor] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""
        try:
            response = self._answer(Request(environ))
        except HTTPException as refusal:
            return refusal(environ, start_response)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path not in _METHODS:
            raise NotFound
        if request.method not in _METHODS[request.path]:
            raise MethodNotAllowed(_METHODS[request.path])
        visitor = self._visitors.get(request.cookies.get(COOKIE, ""))
        if request.path == "/":
            return self._home(request, visitor)
        if visitor is None or not _proven(request, visitor):
            raise Forbidden("This form is out of date. Go back, load the page again, and retry.")
        if request.path == "/employer":
            return self._switched(visitor)
        return self._begun(request, visitor)

    def _begun(self, request: Request, visitor: Visitor) -> Response:
        try:
            return self._finch.begin(
                request=request,
                customer_id=visitor.employer_id,
                customer_name=EMPLOYERS[visitor.employer_id],
                return_to="/",
            )
        except Unavailable as away:
            logger.warning("Connect was not opened: %s", away)
            return away.response()
        except FinchRefused as refused:
            logger.warning("Connect was not opened: %s, %s", refused, refused.name)
            return self._page(visitor, banner="refused", status=502)

    def _switched(self, visitor: Visitor) -> Response:
        """As if somebody of the other employer had signed in: with a new session."""
        other = next(each for each in EMPLOYERS if each != visitor.employer_id)
        self._visitors.pop(visitor.visitor_id, None)
        response = Response(status=303, headers={"Location": "/"})
        return self._remembered(Visitor.new(employer_id=other), response)

    def _home(self, request: Request, visitor: Visitor | None) -> Response:
        known = visitor or Visitor.new(employer_id=next(iter(EMPLOYERS)))
        page = self._page(
            known,
            banner=request.args.get("finch", ""),
            reference=request.args.get("finch_ref", ""),
        )
        return page if visitor else self._remembered(known, page)

    def _remembered(self, visitor: Visitor, response: Response) -> Response:
        while len(self._visitors) >= _VISITORS_LIMIT:
            self._visitors.pop(next(iter(self._visitors)), None)
        self._visitors[visitor.visitor_id] = visitor
        response.set_cookie(COOKIE, visitor.visitor_id, httponly=True, samesite="Lax")
        return response

    def _page(
        self, visitor: Visitor, *, banner: str, reference: str = "", status: int = 200
    ) -> Response:
        connections = self._connections(visitor)
        others = [name for each, name in EMPLOYERS.items() if each != visitor.employer_id]
        nonce = secrets.token_urlsafe(16)
        html = _template().substitute(
            banner=_banner(banner, reference=reference),
            button="Connect again" if connections else "Connect payroll",
            connections="".join(map(_listed, connections)) or _none(banner),
            csrf_token=escape(visitor.csrf_token),
            employer=escape(EMPLOYERS[visitor.employer_id]),
            nonce=nonce,
            notice=escape(self._notice),
            other=escape(others[0]),
        )
        return Response(html, status=status, mimetype="text/html", headers=_headers(nonce))

    def _connections(self, visitor: Visitor) -> list[Connection]:
        try:
            return self._finch.connections.for_customer(visitor.employer_id)
        except StorageUnavailable:
            raise ServiceUnavailable("The database is away. Please try again.") from None


def _none(banner: str) -> str:
    """Nothing where a token is still on its way: the banner says so."""
    said = banner == "finishing"
    return "" if said else '<li class="none">No payroll is connected yet.</li>'


def _proven(request: Request, visitor: Visitor) -> bool:
    """Whether the form is one that we gave to this visitor (CSRF)."""
    given = request.form.get("csrf_token", "")
    return hmac.compare_digest(given.encode(), visitor.csrf_token.encode())


def _banner(hint: str, *, reference: str) -> str:
    if hint not in _BANNERS:
        return ""
    known = _REFERENCE.fullmatch(reference)
    told = f" <small>Reference {known[0]}</small>" if known else ""
    return f'<p class="banner {hint}" role="status">{_BANNERS[hint]}{told}</p>'


def _listed(connection: Connection) -> str:
    provider = connection.provider_id.replace("_", " ").title()
    products = ", ".join(connection.products).replace("_", " ")
    since = connection.obtained_at.strftime("%d %B %Y, %H:%M:%S UTC")
    return (
        f'<li><strong class="provider">{escape(provider)}</strong>'
        f"<span>{escape(products)}</span>"
        f"<span>connected {since}</span>"
        f'<span>token <code class="token">{escape(_shown_token(connection))}</code></span></li>'
    )


def _shown_token(connection: Connection) -> str:
    """A real application reveals the token only to call Finch; here it proves that it opens."""
    try:
        return masked(connection.access_token.reveal())
    except CannotOpen:
        return "sealed with a key of another run"


def _headers(nonce: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        # No form-action: browsers apply it to the redirect that leads to Finch, too.
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
    }


@cache
def _template() -> Template:
    page = resources.files("finch_middleware.cli") / "demo_app.html"
    return Template(page.read_text(encoding="utf-8"))
