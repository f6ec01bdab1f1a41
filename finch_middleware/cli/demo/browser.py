"""The demo's browser: a `requests.Session` that submits forms and reads pages."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urljoin, urlsplit

import requests


class DemoFailed(Exception):
    """Something did not happen as promised; the text states what was observed."""


class Browser(requests.Session):
    """Keeps cookies and follows no redirect."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no .netrc of this machine
        # What is not a navigation gets JSON from the library instead of a page.
        self.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})

    def open(
        self, url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """Open *url*, or submit *form* to it; raises DemoFailed if there is no response."""
        method = "GET" if form is None else "POST"
        try:
            return self.request(
                method, url, data=form, headers=headers, timeout=15, allow_redirects=False
            )
        except requests.RequestException as error:
            failure = f"No response ({type(error).__name__}): {method} {url.partition('?')[0]}"
        # Outside of the except block: the error may quote the URL, with the code in it.
        raise DemoFailed(failure)

    def submit(self, page: requests.Response, path: str, **fields: str) -> requests.Response:
        """Submit the form of *page* that leads to *path*, with *fields* filled in."""
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        filled = {name: unescape(value) for name, value in hidden}
        url, origin = urljoin(page.url, path), urljoin(page.url, "/").rstrip("/")
        return self.open(url, form=filled | fields, headers={"Origin": origin})


def location(response: requests.Response) -> str:
    """The absolute URL that *response* redirects to, or an empty string."""
    return urljoin(response.url, response.headers["Location"]) if response.is_redirect else ""


def text_of(page: requests.Response, name: str) -> str:
    """How the first element with this tag or class begins, or an empty string."""
    found = re.search(rf'<(?:{name}\b|\w+ class="{name}\b)[^>]*>([^<]*)', page.text)
    return unescape(found[1]).strip() if found else ""


def parameter(url: str, name: str) -> str:
    """A query parameter of *url*, or an empty string."""
    return parse_qs(urlsplit(url).query).get(name, [""])[0]
