"""
Turns an Outcome into a response: a redirect into the application, JSON, or a page.

Below `Pages` are the headers that every response has.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote

from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie

from finch_middleware.config.settings import Settings
from finch_middleware.config.urls import PLAIN, around_parameters, safe_return_to
from finch_middleware.outcomes import (
    Connected,
    Declined,
    Failed,
    Finishing,
    Invalid,
    Outcome,
    Repeated,
    Response,
    Retry,
    SetCookie,
)
from finch_middleware.web.html import begin_form, link, load_template
from finch_middleware.web.request import CallbackRequest
from finch_middleware.web.texts import filled, resolve_texts

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from finch_middleware.finch.responses import ConnectSession

Ended = Connected | Finishing | Declined | Invalid | Failed
#: How scripts, addresses and texts name each end.
_WORDS: dict[type[Ended], str] = {kind: kind.__name__.lower() for kind in get_args(Ended)}

#: The path of ours that a request came to.
At = Literal["callback", "begin", "invitation"]

ALLOW = "GET, HEAD, POST, OPTIONS"

#: The other request with the same code takes about this long.
_REFRESH_SECONDS = 2
#: A database takes about this long to restart.
_RETRY_SECONDS = 5

#: Operators have to fix these first, so a reload is not the main action of the page.
_FIXED_BY_OPERATORS = frozenset({"failed.payment_required", "failed.client_rejected"})

#: The person has to sign in, or to switch companies, in the application first.
_FIXED_IN_APPLICATION = frozenset({"invalid.signed_out", "invalid.other_customer"})


class Pages:
    """
    Makes the responses to people and scripts. Immutable, and shared by all threads.

    With `begin_path`, "Start again" is a button that begins a new flow there. Without it, the link
    leads back to the application, or to `invite_path` for an invited person.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._page = load_template(settings.templates)
        self._texts = resolve_texts(settings.texts, brand=settings.brand)
        self._begin_href = settings.href(settings.begin_path)
        self._invite_href = settings.href(settings.invite_path)

    def respond(
        self, outcome: Outcome, request: CallbackRequest, *, at: At = "callback"
    ) -> Response:
        """
        The response to *request*, with its cookies. It contains nothing of the request.

        *at*: where it arrived. The page of a failed ``begin`` cannot be loaded again, and that of
        an ``invitation`` leads back to the invitation.
        """
        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        response = self._make_response(ended, request, at=at)
        response.headers.add("Vary", "Cookie, Accept, Content-Type, Sec-Fetch-Mode")
        return add_cookies(response, outcome.cookies)

    def open_connect(
        self,
        session: ConnectSession,
        *,
        location: str | None,
        state: str,
        cookies: Sequence[SetCookie],
    ) -> Response:
        """The response that opens Finch Connect: a redirect to *location*, or JSON for the SDK."""
        if location is not None:
            response = redirect(location if PLAIN.fullmatch(location) else "/")
        else:
            response = json_response(
                {
                    "session_id": session.session_id,
                    "state": state,
                    "connect_url": session.connect_url,
                    "connect_origin": self._settings.connect_origin,
                }
            )
        response.headers.add("Vary", "Cookie")
        return add_cookies(response, cookies)

    def begin(self) -> Response:
        """The page with the button that begins a flow by a POST to the page's own address."""
        text = self._texts["begin"]
        actions = [
            begin_form(text["action"]),
            link("quiet", self._texts["page"]["back"], self._settings.return_to),
        ]
        # Without Sec-Fetch-Site, only the Origin shows that the form was ours.
        return self._html(text, "begin", actions, begins=True, referrer="same-origin")

    def invitation(self, *, customer_name: str, products: Sequence[str]) -> Response:
        """The page of an invitation, with the button that begins a flow by a POST to it."""
        words = self._texts["products"]
        asked = [words.get(each, each.replace("_", " ")) for each in products]
        text = filled(
            self._texts["invitation"],
            application=self._settings.brand or self._texts["page"]["application"],
            customer=customer_name,
            products=", ".join(dict.fromkeys(asked)),
        )
        return self._html(text, "begin", [begin_form(text["action"])], begins=True)

    def notice(self, name: str) -> Response:
        """The page with that text alone."""
        kind = "connected" if name.endswith("connected") else "begin"
        return self._html(self._texts[name], kind, [])

    def _make_response(self, ended: Ended, request: CallbackRequest, *, at: At) -> Response:
        refused = isinstance(ended, Invalid) and ended.reason == "method"
        if refused and request.method == "HEAD":
            return protected("")
        if refused and request.method == "OPTIONS":
            return no_content()
        if request.from_script:
            response = json_response(self._summary(ended), status=ended.status)
        elif isinstance(ended, Connected | Declined) or _text_name(ended) == "finishing.spooled":
            # This removes the code from the browser's address and history.
            home, fragment = around_parameters(self._home(ended), ("finch", "finch_ref"))
            reference = quote(ended.reference, safe="")
            return redirect(f"{home}finch={_WORDS[type(ended)]}&finch_ref={reference}{fragment}")
        else:
            response = self._render(ended, step=_next_step(ended, request, at=at))
        if refused:
            response.headers["Allow"] = ALLOW
        if (seconds := _retry_after(ended)) is not None:
            response.headers["Retry-After"] = str(seconds)
        return response

    def _summary(self, ended: Ended) -> dict[str, str | None]:
        text = self._texts[_text_name(ended)]
        title = text["title"]
        end = "" if title.endswith((".", "!", "?")) else "."
        summary: dict[str, str | None] = {
            "outcome": _WORDS[type(ended)],
            "message": f"{title}{end} {text['body']}",
            "reference": ended.reference,
            "retry": ended.retry.value,
            "return_to": self._home(ended),
        }
        if isinstance(ended, Invalid | Failed):
            summary["reason"] = ended.reason
        if isinstance(ended, Connected):
            summary["connection_id"] = ended.connection_id
        return summary

    def _render(self, ended: Ended, *, step: Retry) -> Response:
        text = self._texts[_text_name(ended)]
        # An invited person has no use for the page at begin_path.
        invited = ended.return_to == self._invite_href
        begin_href = self._begin_href if step is Retry.RESTART and not invited else None
        if step is Retry.RESTART and ended.retry is Retry.RELOAD and begin_href is None:
            text = {**text, "body": f"{text['body']} {self._texts['page']['press']}"}
        response = self._html(
            text,
            _WORDS[type(ended)],
            self._actions(ended, step=step, begin_href=begin_href),
            status=ended.status,
            reference=ended.reference,
            begins=begin_href is not None,
        )
        if isinstance(ended, Finishing) and step is Retry.RELOAD:
            response.headers["Refresh"] = str(_REFRESH_SECONDS)
        return response

    def _actions(self, ended: Ended, *, step: Retry, begin_href: str | None) -> list[str]:
        """Links and buttons, the useful one first. An empty href is the page's own address."""
        name, page, home = _text_name(ended), self._texts["page"], self._home(ended)
        own = self._texts[name]["action"]
        again = own or page["restart" if ended.retry is Retry.RESTART else "again"]
        if begin_href is not None:
            return [begin_form(again, action=begin_href), link("quiet", page["back"], home)]
        if step is not Retry.RELOAD:
            # The link starts nothing, so it has the label of a way back.
            label = page["back"] if ended.retry is Retry.RELOAD else own or page["back"]
            return [link("primary", label, home)]
        if isinstance(ended, Finishing):
            return [link("quiet", again, "")]
        if name in _FIXED_BY_OPERATORS:
            return [link("primary", page["back"], home), link("quiet", again, "")]
        return [link("primary", again, ""), link("quiet", page["back"], home)]

    def _html(
        self,
        text: Mapping[str, str],
        kind: str,
        actions: Sequence[str],
        *,
        status: int = 200,
        reference: str = "",
        begins: bool = False,
        referrer: str = "",
    ) -> Response:
        """Fill in the template; *actions* are HTML, with *begins* a button that begins a flow."""
        shared, nonce = self._texts["page"], secrets.token_urlsafe(16)
        plain = {
            "body": text["body"],
            "brand": self._settings.brand,
            "help": shared["help"] if reference else "",
            "lang": shared["lang"],
            "outcome": kind,
            "reference": reference,
            "reference_label": shared["reference"] if reference else "",
            "title": text["title"],
        }
        escaped = {name: escape(value) for name, value in plain.items()}
        page = self._page.substitute(escaped, actions="\n".join(actions), nonce=nonce)
        return protected(
            page,
            status=status,
            nonce=nonce,
            # Chromium applies form-action to the redirect after the form as well.
            form_action=f"'self' {self._settings.connect_origin}" if begins else "'none'",
            # The form's Origin has to arrive, but this page's address may be a secret.
            referrer=referrer or ("strict-origin" if begins else "no-referrer"),
        )

    def _home(self, ended: Ended) -> str:
        """Its return_to, or / if that is no longer a place of this application."""
        return safe_return_to(ended.return_to, self._settings.spa_origins)


def _text_name(ended: Ended) -> str:
    """The name of its text in TEXTS."""
    if isinstance(ended, Invalid | Failed):
        return f"{_WORDS[type(ended)]}.{ended.reason}"
    if isinstance(ended, Finishing) and ended.spooled:
        return "finishing.spooled"
    return _WORDS[type(ended)]


def _next_step(ended: Ended, request: CallbackRequest, *, at: At) -> Retry:
    """What the person can do on this page. A link cannot send a form again."""
    name = _text_name(ended)
    if name in _FIXED_IN_APPLICATION:
        return Retry.NONE
    if at == "invitation":
        return Retry.NONE if ended.retry is Retry.NONE else Retry.RELOAD
    if ended.retry is not Retry.RELOAD or (request.method == "GET" and at == "callback"):
        return ended.retry
    needs_others = isinstance(ended, Finishing) or name in _FIXED_BY_OPERATORS
    return Retry.NONE if needs_others else Retry.RESTART


def _retry_after(ended: Ended) -> int | None:
    """Seconds to wait before a reload, where waiting helps."""
    if isinstance(ended, Failed) and ended.retry_after is not None:
        return max(0, ended.retry_after)
    if ended.status == 503 and ended.retry is Retry.RELOAD:
        return _RETRY_SECONDS
    return None


class _Complete(Response):
    """A response whose headers are sent as they are."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Its headers. The original copies them, and reads Location as an IRI."""
        return self.headers


def protected(
    content: str,
    *,
    content_type: str = "text/html; charset=utf-8",
    status: int = 200,
    nonce: str | None = None,
    form_action: str = "'none'",
    referrer: str = "no-referrer",
) -> Response:
    """A response that forbids caching, framing, and everything but the style with *nonce*."""
    body = content.encode()
    style = "'none'" if nonce is None else f"'nonce-{nonce}'"
    policy = (
        f"default-src 'none'; style-src {style}; base-uri 'none'; "
        f"form-action {form_action}; frame-ancestors 'none'"
    )
    headers = Headers()
    for name, value in (
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", referrer),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Content-Security-Policy", policy),
    ):
        headers.add(name, value)
    return _Complete([body], status=status, headers=headers)


def redirect(location: str) -> Response:
    # 303 makes the browser use GET, also after a callback by POST.
    response = protected("", content_type="text/plain; charset=utf-8", status=303)
    response.headers.add("Location", location)
    return response


def json_response(content: Mapping[str, str | None], *, status: int = 200) -> Response:
    return protected(json.dumps(content), content_type="application/json", status=status)


def no_content() -> Response:
    """The response to OPTIONS."""
    response = protected("", status=204)
    del response.headers["Content-Type"]  # RFC 9110 section 8.3: it describes content
    del response.headers["Content-Length"]
    response.headers["Allow"] = ALLOW
    return response


def allow_origins(
    response: Response, request: CallbackRequest, *, spa_origins: Collection[str]
) -> Response:
    """Let pages of *spa_origins* read *response*, as the Fetch standard asks; return it."""
    response.vary.add("Origin")
    if request.from_page_of(spa_origins):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "POST"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type"
            response.headers["Access-Control-Max-Age"] = "600"
    return response


def with_cookies(response: Response, cookies: Sequence[SetCookie]) -> Response:
    """A copy of *response* that sets these cookies."""
    # An application may return one object to all visitors, but cookies belong to one of them.
    response = copy.copy(response)
    response.headers = Headers(response.headers)
    return add_cookies(response, cookies)


def add_cookies(response: Response, cookies: Sequence[SetCookie]) -> Response:
    """Let *response* set these cookies, and return it; a value of None deletes its cookie."""
    for cookie in cookies:
        header = dump_cookie(
            cookie.name,
            "" if cookie.value is None else cookie.value.reveal(),
            max_age=0 if cookie.value is None else cookie.max_age,
            path="/",
            secure=cookie.secure,
            httponly=True,
            samesite="Lax",
            sync_expires=False,  # Max-Age is enough, and the person's clock may be wrong
        )
        response.headers.add("Set-Cookie", header)
    return response
