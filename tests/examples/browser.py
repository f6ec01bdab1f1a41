"""A browser that presses buttons and sends the form of the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import requests

_PATIENCE_SECONDS = 120


@dataclass
class Form:
    """A form with its buttons by their labels."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, dict[str, str]] = field(default_factory=dict)


class Reader(HTMLParser):
    """The forms of a page, and the text that a person reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.texts: list[str] = []
        self._button: dict[str, str] | None = None
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._silent = tag in ("style", "script")
        if tag == "form":
            self.forms.append(Form(action=given.get("action", ""), method=given["method"]))
        if tag == "input" and (given.get("type") != "radio" or "checked" in given):
            self.forms[-1].fields[given["name"]] = given["value"]
        if tag == "button":
            self._button = {given["name"]: given["value"]} if "name" in given else {}

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, text: str) -> None:
        if self._silent or not text.strip():
            return
        self.texts.append(text.strip())
        if self._button is not None:
            self.forms[-1].buttons[text.strip()] = self._button
            self._button = None


class Browser:
    """
    One person's browser, with its cookies; it follows redirects.

    Attributes:
        response: The page that it shows.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._session = requests.Session()
        self.response = self.open("/")

    def open(self, path: str) -> requests.Response:
        """Type an address."""
        self.response = self._session.get(urljoin(self.origin, path), timeout=_PATIENCE_SECONDS)
        return self.response

    def press(self, label: str) -> requests.Response:
        """Press the button of that label."""
        form = next(form for form in Reader(self.response.text).forms if label in form.buttons)
        assert form.method == "post"
        fields = form.fields | form.buttons[label]
        return self.send(form.action or self.response.url, fields=fields, headers=self.ours)

    def send(
        self, action: str, *, fields: dict[str, str], headers: dict[str, str] | None = None
    ) -> requests.Response:
        """Post these fields, as any page in this browser can; *headers* identify the page."""
        address = urljoin(self.response.url, action)
        self.response = self._session.post(
            address, fields, headers=headers, timeout=_PATIENCE_SECONDS
        )
        return self.response

    @property
    def ours(self) -> dict[str, str]:
        """The headers with which a browser identifies the current page when it sends a form."""
        page = urlsplit(self.response.url)
        return {"Origin": f"{page.scheme}://{page.netloc}", "Sec-Fetch-Site": "same-origin"}

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(Reader(self.response.text).texts)

    @property
    def fields(self) -> dict[str, str]:
        """The hidden fields of the page's forms, such as its CSRF token."""
        return {
            name: value
            for form in Reader(self.response.text).forms
            for name, value in form.fields.items()
        }

    def tamper_with_cookies(self) -> None:
        """Change every cookie in the middle, as a person with a debugger can."""
        for cookie in self._session.cookies:
            assert cookie.value is not None
            middle = len(cookie.value) // 2
            other = "A" if cookie.value[middle] != "A" else "B"
            cookie.value = cookie.value[:middle] + other + cookie.value[middle + 1 :]
