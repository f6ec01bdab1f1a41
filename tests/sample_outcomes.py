"""A sample of every outcome, the pages, requests of a browser and a script, and a parsed page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from finch_middleware.outcomes import (
    FAILED_REASONS,
    INVALID_REASONS,
    Connected,
    Declined,
    Failed,
    Finishing,
    Invalid,
    Outcome,
    Repeated,
    Response,
    SetCookie,
)
from finch_middleware.secret import Secret
from finch_middleware.web.pages import Pages
from finch_middleware.web.request import CallbackRequest
from tests.keys import a_settings

COOKIE = SetCookie(name="__Host-finch-1", value=Secret("sealed"), max_age=600, secure=True)
COMMON: dict[str, Any] = {"reference": "7K3Q9XWD", "return_to": "/settings?tab=payroll#finch"}
CONNECTED = Connected(connection_id="c-1", customer_id="acme", **COMMON)
SPOOLED = Finishing(spooled=True, **COMMON)
IN_PROGRESS = Finishing(spooled=False, **COMMON)
DECLINED = Declined(reason="access_denied", **COMMON)
INVALID = [Invalid(reason=reason, **COMMON) for reason in INVALID_REASONS]
FAILED = [Failed(reason=reason, **COMMON) for reason in FAILED_REASONS]
UNTRUSTED = Invalid(reason="expired", **COMMON)
UNREACHABLE = Failed(reason="unreachable", **COMMON)

REDIRECTED: list[Outcome] = [CONNECTED, SPOOLED, DECLINED, Repeated(first=CONNECTED)]
RENDERED: list[Outcome] = [
    IN_PROGRESS,
    *INVALID,
    *FAILED,
    Repeated(first=UNTRUSTED),
    Repeated(first=UNREACHABLE),
]
EVERY = [*REDIRECTED, *RENDERED]


def make_pages(**options: Any) -> Pages:
    return Pages(a_settings(**options))


def browser(method: str = "GET", **headers: str) -> CallbackRequest:
    return CallbackRequest(method=method, headers={"Sec-Fetch-Mode": "navigate", **headers})


def script() -> CallbackRequest:
    return CallbackRequest(headers={"Sec-Fetch-Mode": "cors"})


def named(outcome: object) -> str:
    """A test id."""
    if isinstance(outcome, Repeated):
        return f"repeated-{named(outcome.first)}"
    detail = getattr(outcome, "reason", None) or getattr(outcome, "spooled", "")
    return f"{type(outcome).__name__.lower()}-{detail}"


class Page(HTMLParser):
    """A parsed page: its elements, links and texts."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(response.get_data(as_text=True))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            kind = dict(attrs).get("class")
            self._open.append(f".{kind}" if kind else tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        self.texts[where] = self.texts.get(where, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def links(self) -> list[tuple[str | None, str | None]]:
        """The class and the address of each link."""
        return [(a.get("class"), a.get("href")) for a in self.all("a")]
