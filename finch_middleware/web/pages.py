"""An Outcome becomes a Response: a redirect into the application, JSON for a script, or a page."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote_plus

from finch_middleware.config.urls import check_return_to
from finch_middleware.errors import ConfigurationError
from finch_middleware.finch.responses import ConnectSession
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
from finch_middleware.web.headers import (
    ALLOW,
    as_json,
    guarded,
    no_content,
    redirect,
    with_cookies,
)
from finch_middleware.web.request import CallbackRequest
from finch_middleware.web.texts import Texts, faults_of, resolved

Ended = Connected | Finishing | Declined | Invalid | Failed

#: Seconds: a winner needs about as long, and a database that restarts about so.
_REFRESH_AFTER = 2
_RETRY_AFTER = 5

#: A reload only helps once these are mended by others, so it is not what the page suggests.
_FOR_OPERATORS = frozenset({"failed.payment_required", "failed.client_rejected"})

#: Nothing can begin before the person has signed in, or switched, in the application itself.
_APPLICATION_FIRST = frozenset({"invalid.signed_out", "invalid.other_customer"})

_WORDS: dict[type[Ended], str] = {
    Connected: "connected",
    Finishing: "finishing",
    Declined: "declined",
    Invalid: "invalid",
    Failed: "failed",
}

_TEMPLATE = "page.html"

_PLACEHOLDERS = frozenset(
    {
        "actions",
        "body",
        "brand",
        "help",
        "lang",
        "nonce",
        "outcome",
        "reference",
        "reference_label",
        "title",
    }
)

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class Pages:
    """
    The answers that people and scripts get; immutable, and shared by all threads.

    *brand* is the application's name. *texts* replaces single texts by their names in
    `finch_middleware.web.texts.TEXTS`: ``{"failed.unreachable": {"title": "…"}}``; a text may
    mention ``$application``. With *begin_path*, as a browser writes it, "Start again" is a
    button that begins anew there and leads on to *connect_origin*. *templates* is a folder with
    a ``page.html`` in place of ours, a `string.Template` in UTF-8. It may hold these
    placeholders, all escaped already:

    - ``$title``, ``$body``: what happened, and what to do now
    - ``$actions``: links and forms, one or two, of the classes ``primary`` and ``quiet``; put
      them into an element that may hold a form
    - ``$brand``, ``$lang``: the application's name (may be empty); the language of the texts
    - ``$reference``, ``$reference_label``, ``$help``: what to mention to whoever helps; empty
      on the page that begins
    - ``$outcome``: ``begin``, ``finishing``, ``invalid`` or ``failed``
    - ``$nonce``: for ``<style nonce="$nonce">``, the only thing that the page's policy lets in

    Raises:
        ConfigurationError: A text or the template is missing, unreadable, or mentions
            what does not exist; all faults at once.
    """

    def __init__(
        self,
        *,
        brand: str = "",
        texts: Texts | None = None,
        templates: str | Path | None = None,
        spa_origins: Collection[str] = (),
        begin_path: str | None = None,
        connect_origin: str = "",
    ) -> None:
        self._page, faults = _load(templates)
        faults += faults_of(texts or {})
        if faults:
            raise ConfigurationError(faults)
        self._brand = brand
        self._spa_origins = spa_origins
        self._begin_path = begin_path
        self._connect_origin = connect_origin
        self._texts = resolved(texts or {}, brand=brand)

    def respond(self, outcome: Outcome, request: CallbackRequest) -> Response:
        """The answer to *request*, its cookies included. Nothing of the request appears in it."""
        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        response = self._answer(ended, request)
        response.headers["Vary"] = "Cookie, Accept, Content-Type, Sec-Fetch-Mode"
        return with_cookies(response, outcome.cookies)

    def opened(
        self,
        session: ConnectSession,
        *,
        location: str | None,
        state: str | None,
        connect_origin: str,
        cookies: Sequence[SetCookie],
    ) -> Response:
        """The way into Finch Connect: a redirect to *location*, or JSON for Finch's SDK."""
        if location is not None:
            response = redirect(location if _PRINTABLE.fullmatch(location) else "/")
        else:
            response = as_json(
                {
                    "session_id": session.session_id,
                    "state": state,
                    "connect_url": session.connect_url,
                    "connect_origin": connect_origin,
                }
            )
        response.headers["Vary"] = "Cookie"
        return with_cookies(response, cookies)

    def begin(self, *, connect_origin: str) -> Response:
        """The page with the button that begins a flow: a POST to the page's own address."""
        text = self._texts["begin"]
        response = self._html(
            text,
            kind="begin",
            actions=f'<form method="post">{_button(text["action"])}</form>',
            form_action=_leading_to(connect_origin),
        )
        # A browser without Sec-Fetch-Site tells by the Origin alone that the form was ours.
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    def _answer(self, ended: Ended, request: CallbackRequest) -> Response:
        refused = isinstance(ended, Invalid) and ended.reason == "method"
        if refused and request.method == "HEAD":
            return guarded(Response(mimetype="text/html"))
        if refused and request.method == "OPTIONS":
            return no_content()
        if request.from_script:
            response = as_json(self._summary(ended), status=ended.status)
        elif _goes_on(ended):
            return redirect(_with_hint(ended, home=self._home(ended)))
        else:
            response = self._render(ended, request)
        if refused:
            response.headers["Allow"] = ALLOW
        if (seconds := _wait_of(ended)) is not None:
            response.headers["Retry-After"] = str(seconds)
        return response

    def _summary(self, ended: Ended) -> dict[str, str | None]:
        text = self._texts[_name_of(ended)]
        summary: dict[str, str | None] = {
            "outcome": _WORDS[type(ended)],
            "message": _sentence(text["title"]) + " " + text["body"],
            "reference": ended.reference,
            "retry": ended.retry.value,
            "return_to": self._home(ended),
        }
        if isinstance(ended, Invalid | Failed):
            summary["reason"] = ended.reason
        if isinstance(ended, Connected):
            summary["connection_id"] = ended.connection_id
        return summary

    def _render(self, ended: Ended, request: CallbackRequest) -> Response:
        anew = self._begins_anew(ended)
        response = self._html(
            self._texts[_name_of(ended)],
            kind=_WORDS[type(ended)],
            actions=self._actions(ended, request),
            reference=ended.reference,
            form_action=_leading_to(self._connect_origin) if anew else "'none'",
        )
        response.status_code = ended.status
        if anew:
            # As at begin, the form's Origin has to arrive; this page's address may hold a code.
            response.headers["Referrer-Policy"] = "strict-origin"
        if isinstance(ended, Finishing) and _reloadable(ended, request):
            response.headers["Refresh"] = str(_REFRESH_AFTER)
        return response

    def _html(
        self,
        text: Mapping[str, str],
        *,
        kind: str,
        actions: str,
        reference: str = "",
        form_action: str = "'none'",
    ) -> Response:
        """The template, filled in; *actions* is HTML already."""
        shared, nonce = self._texts["page"], secrets.token_urlsafe(16)
        page = self._page.substitute(
            actions=actions,
            body=escape(text["body"]),
            brand=escape(self._brand),
            help=escape(shared["help"]) if reference else "",
            lang=escape(shared["lang"]),
            nonce=nonce,
            outcome=kind,
            reference=escape(reference),
            reference_label=escape(shared["reference"]) if reference else "",
            title=escape(text["title"]),
        )
        response = Response(page, mimetype="text/html")
        return guarded(response, nonce=nonce, form_action=form_action)

    def _home(self, ended: Ended) -> str:
        """Its return_to, or / where that is not (or no more) a place of this application."""
        return_to = ended.return_to
        try:
            plain = check_return_to(return_to, spa_origins=self._spa_origins)
        except ValueError:  # UsageError, or UnicodeEncodeError for half a surrogate pair
            return "/"
        return return_to if plain == return_to else "/"

    def _begins_anew(self, ended: Ended) -> bool:
        """Whether the page has the button that begins anew."""
        restarts = ended.retry is Retry.RESTART and _name_of(ended) not in _APPLICATION_FIRST
        return restarts and self._begin_path is not None

    def _actions(self, ended: Ended, request: CallbackRequest) -> str:
        """Links and the button: what helps comes first. An empty href is the page's own address."""
        name, shared, home = _name_of(ended), self._texts["page"], self._home(ended)
        own = self._texts[name]["action"]
        if self._begins_anew(ended):
            form = f'<form method="post" action="{escape(self._begin_path or "")}">'
            button = _button(own or shared["restart"])
            return f"{form}{button}</form>\n{_link(shared['back'], href=home, kind='quiet')}"
        if ended.retry is Retry.RESTART:
            return _link(own or shared["restart"], href=home, kind="primary")
        if ended.retry is Retry.NONE:
            return _link(own or shared["back"], href=home, kind="primary")
        if not _reloadable(ended, request):
            return _link(shared["back"], href=home, kind="primary")
        if isinstance(ended, Finishing):
            return _link(own or shared["again"], href="", kind="quiet")
        again, back = own or shared["again"], shared["back"]
        if name in _FOR_OPERATORS:
            return _links(primary=(back, home), quiet=(again, ""))
        return _links(primary=(again, ""), quiet=(back, home))


def _load(folder: str | Path | None) -> tuple[Template, list[str]]:
    """The page's template, and what is wrong with it."""
    ours = resources.files("finch_middleware.web")
    source = (ours if folder is None else Path(folder)) / _TEMPLATE
    try:
        page = Template(source.read_text(encoding="utf-8"))
    except OSError:
        return Template(""), [f"templates: {source} cannot be read; give a folder with a page.html"]
    except UnicodeDecodeError:
        return Template(""), [f"templates: {source} is not UTF-8; save it as UTF-8"]
    if not page.is_valid():
        return page, [f"templates: {source} has a $ that begins no placeholder; write $$ for it"]
    known = ", ".join(f"${name}" for name in sorted(_PLACEHOLDERS))
    unknown = sorted(set(page.get_identifiers()) - _PLACEHOLDERS)
    return page, [
        f"templates: {source} mentions ${name}; it may mention {known}" for name in unknown
    ]


def _name_of(ended: Ended) -> str:
    """The name of its text."""
    if isinstance(ended, Invalid | Failed):
        return f"{_WORDS[type(ended)]}.{ended.reason}"
    if isinstance(ended, Finishing) and ended.spooled:
        return "finishing.spooled"
    return _WORDS[type(ended)]


def _goes_on(ended: Ended) -> bool:
    """Whether the browser is sent on, so that the code leaves its address bar and history."""
    return isinstance(ended, Connected | Declined) or (
        isinstance(ended, Finishing) and ended.spooled
    )


def _reloadable(ended: Ended, request: CallbackRequest) -> bool:
    """Whether a link to the same address brings the same request: never what a form has sent."""
    return ended.retry is Retry.RELOAD and request.method == "GET"


def _wait_of(ended: Ended) -> int | None:
    """Seconds to wait before a reload."""
    if isinstance(ended, Failed) and ended.retry_after is not None:
        return max(0, ended.retry_after)
    if ended.status == 503 and ended.retry is Retry.RELOAD:
        return _RETRY_AFTER
    return None


def _with_hint(ended: Ended, *, home: str) -> str:
    """*home* with `finch` and `finch_ref` in the query; all else byte for byte."""
    address, hash_sign, fragment = home.partition("#")
    path, _, query = address.partition("?")
    kept = [part for part in query.split("&") if not _is_hint(part)] if query else []
    hint = f"finch={_WORDS[type(ended)]}", f"finch_ref={quote(ended.reference, safe='')}"
    return f"{path}?{'&'.join([*kept, *hint])}{hash_sign}{fragment}"


def _is_hint(parameter: str) -> bool:
    return unquote_plus(parameter.partition("=")[0]) in ("finch", "finch_ref")


def _sentence(title: str) -> str:
    return title if title.endswith((".", "!", "?")) else f"{title}."


def _leading_to(connect_origin: str) -> str:
    """The form-action of a button that begins."""
    # Chromium holds a redirect after a form to form-action, and this one leads to Connect.
    return f"'self' {connect_origin}"


def _button(label: str) -> str:
    return f'<button class="primary">{escape(label)}</button>'


def _link(label: str, *, href: str, kind: str) -> str:
    return f'<a class="{kind}" href="{escape(href)}">{escape(label)}</a>'


def _links(*, primary: tuple[str, str], quiet: tuple[str, str]) -> str:
    """Two links of a label and an address each."""
    first = _link(primary[0], href=primary[1], kind="primary")
    return f"{first}\n{_link(quiet[0], href=quiet[1], kind='quiet')}"
