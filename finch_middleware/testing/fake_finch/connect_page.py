"""Finch Connect: the page on which an employer consents, and what the browser returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal
from urllib.parse import urlencode, urlsplit

from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import OpenedSession
from finch_middleware.testing.fake_finch.rules import Rules

PROVIDERS = {
    "gusto": "Gusto",
    "adp_run": "ADP Run",
    "bamboo_hr": "BambooHR",
    "rippling": "Rippling",
    "paychex_flex": "Paychex Flex",
    "quickbooks_payroll": "QuickBooks Payroll",
}
Decision = Literal["allow", "deny", "close"]
_DECISIONS: dict[str, Decision] = {"allow": "allow", "deny": "deny", "close": "close"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    ),
}


class SessionGone(LookupError):
    """The Connect session is unknown or has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An opened Connect session: after a redirect, or in the iframe of Finch's SDK."""

    session: OpenedSession
    state: str | None
    host_origin: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the person chooses on the page."""

    decision: Decision
    provider_id: str | None = None
    entities: int | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class ConnectPage:
    """Shows the page, and turns the person's decision into a redirect or a message."""

    rules: Rules
    ledger: Ledger

    def respond(self, request: Request) -> Response:
        """The page for a GET; the way back for a POST of its form."""
        given = request.form if request.method == "POST" else request.args
        try:
            opened = self.open(given.get("session", ""), state=given.get("state"))
            visit = replace(opened, host_origin=given.get("sdk_host_url") or None)
        except SessionGone:
            return _refusal("This link has expired", "Ask for a new link.")
        if visit.host_origin is None and visit.session.flow == "embedded":
            return _refusal("This session is embedded", "Open it with Finch's JavaScript SDK.")
        if visit.host_origin is not None and not _is_origin(visit.host_origin):
            return _refusal("This page cannot be shown", "sdk_host_url is not an origin.")
        if request.method != "POST":
            return _html(_page(visit))
        decision = _DECISIONS.get(given.get("decision", ""))
        provider_id = given.get("provider")
        if decision is None or provider_id not in _offered(visit.session):
            return _refusal("Nothing was chosen", "Go back and choose a provider.")
        choice = Choice(decision, provider_id)
        if visit.host_origin is None:
            return redirect(self.way_back(visit, choice))
        outcome = self.decide(visit, choice)
        message, target = map(_script_value, (_message(outcome), visit.host_origin))
        return _html(_template("handover.html").substitute(message=message, target=target))

    def open(self, session_id: str, *, state: str | None) -> Visit:
        """A visit without a browser, or SessionGone."""
        session = self.ledger.session(session_id)
        if session is None or self.rules.clock() >= session.expires_at:
            raise SessionGone("this Connect session is unknown or has expired")
        return Visit(session=session, state=state)

    def decide(self, visit: Visit, choice: Choice) -> dict[str, str]:
        """What the browser returns: a code, an error or neither, and the state."""
        state = {} if visit.state is None else {"state": visit.state}
        if choice.decision == "deny":
            reason = "The employer did not consent."
            return {"error": "access_denied", "error_description": reason, **state}
        if choice.decision == "close":
            return state
        return {"code": self._issue(visit.session, choice), **state}

    def way_back(self, visit: Visit, choice: Choice) -> str:
        """The callback URL to which the browser is sent in the redirect flow."""
        redirect_uri = visit.session.redirect_uri
        if redirect_uri is None:
            raise ValueError("a session of the embedded flow has no redirect_uri")
        outcome = self.decide(visit, choice)
        kept = {k: v for k, v in outcome.items() if k != "state" or self.rules.echo_state}
        if not kept:
            return redirect_uri
        return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(kept)}"

    def _issue(self, session: OpenedSession, choice: Choice) -> str:
        issued = self.ledger.issue(
            customer_id=session.customer_id,
            customer_name=session.customer_name,
            provider_id=session.provider_id or choice.provider_id or "gusto",
            products=session.products,
            redirect_uri=session.redirect_uri,
            sandbox=session.sandbox,
            issued_at=self.rules.clock(),
            session_id=session.session_id,
            reauthenticates=session.connection_id is not None,
        )
        self.ledger.accounts.consent(issued.connection_id, entities=choice.entities)
        return issued.code


def _page(visit: Visit) -> str:
    session = visit.session
    hidden = {"session": session.session_id}
    hidden |= {} if visit.state is None else {"state": visit.state}
    hidden |= {} if visit.host_origin is None else {"sdk_host_url": visit.host_origin}
    return _template("connect.html").substitute(
        customer=escape(session.customer_name or session.customer_id),
        verb="Connect again" if session.connection_id else "Connect",
        products="".join(f"<li>{escape(p.replace('_', ' '))}</li>" for p in session.products),
        providers="".join(
            _choice(provider_id, name=name, chosen=position == 0)
            for position, (provider_id, name) in enumerate(_offered(session).items())
        ),
        hidden="".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in hidden.items()
        ),
    )


def _offered(session: OpenedSession) -> dict[str, str]:
    fixed = session.provider_id
    return PROVIDERS if fixed is None else {fixed: PROVIDERS.get(fixed, fixed)}


def _choice(provider_id: str, *, name: str, chosen: bool) -> str:
    return (
        f'<label><input type="radio" name="provider" value="{escape(provider_id)}"'
        f"{' checked' if chosen else ''}><span>{escape(name)}</span></label>"
    )


def _message(outcome: Mapping[str, str]) -> dict[str, object]:
    """The message that Finch's SDK, version 5.0.0, understands."""
    message: dict[str, object] = {"name": "finch-auth-message-v2"}
    if "code" in outcome:
        return message | {"kind": "success", **outcome}
    if "error" not in outcome:
        return message | {"kind": "closed"}
    error = {
        "shouldClose": True,
        "message": outcome["error_description"],
        "type": "employer_connection_error",
    }
    return message | {"kind": "error", "error": error}


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _script_value(value: object) -> str:
    # "</script>" and "<!--" inside a string would end the script element.
    return json.dumps(value).replace("<", "\\u003c")


def _refusal(title: str, advice: str) -> Response:
    page = _template("refusal.html").substitute(title=escape(title), advice=escape(advice))
    return _html(page, status=400)


def _html(page: str, *, status: int = 200) -> Response:
    return Response(page, status=status, content_type="text/html; charset=utf-8", headers=_HEADERS)


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath(name).read_text(encoding="utf-8"))
