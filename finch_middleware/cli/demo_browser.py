"""A person's browser, as far as the demo needs one: cookies, pages, forms. Loopback only."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

_PATIENCE_SECONDS = 15
_BODY_LIMIT_BYTES = 1024 * 1024


class Deviation(Exception):
    """Something went otherwise than promised; the text says what was observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form as a person finds it, with what is filled in already."""

    action: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What came back for one request.

    Attributes:
        set_cookies: The Set-Cookie headers.
        milliseconds: From the first byte sent to the last one read.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    set_cookies: tuple[str, ...]
    text: str
    milliseconds: float

    @property
    def location(self) -> str:
        """
        Where the browser is sent, as a whole address.

        Raises:
            Deviation: It is not sent anywhere.
        """
        if "location" not in self.headers:
            raise Deviation(f"an answer {self.status} leads nowhere: {_place(self.url)}")
        return urljoin(self.url, self.headers["location"])

    def form(self, action: str) -> Form:
        """
        The page's form that leads to that path.

        Raises:
            Deviation: There is none.
        """
        page = _Page.of(self.text)
        for form in page.forms:
            whole = urljoin(self.url, form.action)
            if urlsplit(whole).path == action:
                return Form(action=whole, fields=form.fields)
        raise Deviation(f"no form leads to {action} on an answer {self.status}: {_place(self.url)}")

    def marked(self, name: str) -> str:
        """The text of the first element of that tag or class, empty where there is none."""
        return _Page.of(self.text).texts.get(name, "").strip()


class Browser:
    """Keeps cookies by host, as browsers do, and follows nothing by itself."""

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str], str] = {}

    def get(self, url: str, *, bearer: str | None = None) -> Answer:
        """Open an address."""
        return self._send("GET", url, bearer=bearer)

    def submit(self, form: Form, **fields: str) -> Answer:
        """Send a form, with *fields* as the person chose them."""
        return self._send("POST", form.action, body=urlencode({**form.fields, **fields}))

    def _send(
        self, method: str, url: str, *, body: str | None = None, bearer: str | None = None
    ) -> Answer:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in ("127.0.0.1", "localhost"):
            raise Deviation("the browser is sent to an address that is not on this machine")
        target = parts._replace(scheme="", netloc="", fragment="").geturl()
        headers = {"Host": parts.netloc, "Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
        headers |= {"Cookie": cookies} if (cookies := self._cookies_of(host)) else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if bearer is not None:
            headers |= {"Authorization": f"Bearer {bearer}", "Finch-API-Version": "2020-09-17"}
        # The servers listen on 127.0.0.1 alone, whatever "localhost" means on this machine.
        connection = http.client.HTTPConnection(
            "127.0.0.1", parts.port or 80, timeout=_PATIENCE_SECONDS
        )
        began = time.perf_counter()
        try:
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read(_BODY_LIMIT_BYTES).decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            failure = f"no answer ({type(error).__name__}): {method} {_place(url)}"
        else:
            spent = (time.perf_counter() - began) * 1000
            return self._kept(host, _answer(url, response, text=text, milliseconds=spent))
        finally:
            connection.close()
        # Outside of the except block: the error beneath may quote the address, code included.
        raise Deviation(failure)

    def _cookies_of(self, host: str) -> str:
        own = [(name, value) for (of, name), value in self._cookies.items() if of == host]
        return "; ".join(f"{name}={value}" for name, value in own)

    def _kept(self, host: str, answer: Answer) -> Answer:
        for line in answer.set_cookies:
            pair, *attributes = [part.strip() for part in line.split(";")]
            name, _, value = pair.partition("=")
            if "Max-Age=0" in attributes:
                self._cookies.pop((host, name), None)
            else:
                self._cookies[host, name] = value
        return answer


class _Page(HTMLParser):
    """The forms of a page, and the text of each element by its tag and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, list[str]]] = []
        self._fields: dict[str, str] = {}

    @classmethod
    def of(cls, text: str) -> _Page:
        page = cls()
        page.feed(text)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._fields = {}
            self.forms.append(Form(action=given.get("action", ""), fields=self._fields))
        if tag == "input":
            self._fill(given)
            return
        if tag in ("meta", "link", "br"):
            return
        fresh = [name for name in (tag, *given.get("class", "").split()) if name not in self.texts]
        self.texts.update(dict.fromkeys(fresh, ""))
        self._open.append((tag, fresh))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            continue

    def handle_data(self, data: str) -> None:
        for _, names in self._open:
            for name in names:
                self.texts[name] += data

    def _fill(self, given: Mapping[str, str]) -> None:
        chosen = given.get("type") != "radio" or "checked" in given
        if chosen and "name" in given:
            self._fields[given["name"]] = given.get("value", "")


def _answer(
    url: str, response: http.client.HTTPResponse, *, text: str, milliseconds: float
) -> Answer:
    return Answer(
        url=url,
        status=response.status,
        headers={name.lower(): value for name, value in response.getheaders()},
        set_cookies=tuple(response.headers.get_all("Set-Cookie") or ()),
        text=text,
        milliseconds=milliseconds,
    )


def _place(url: str) -> str:
    """An address without its query, which may hold a code."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
