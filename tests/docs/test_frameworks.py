"""What the manual shows for each framework connects an employer."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import Client

from finch_middleware.options import options_from_env
from finch_middleware.testing import FakeFinch

DOCS = Path(__file__).parents[2] / "docs"
ORIGIN = "http://localhost:5000"

pytestmark = [
    pytest.mark.usefixtures("configured"),
    # WebOb, below Pyramid, still imports it.
    pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning"),
]

#: A browser: method and address; status and the place that it is sent to.
Ask = Callable[[str, str], tuple[int, str]]


def snippets(page: str, heading: str | None = None) -> list[str]:
    """The Python under that heading; without one what stands before the first."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    if heading is None:
        section = text.split("\n## ")[0]
    else:
        section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```python[^\n]*\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def run(code: list[str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("of_the_manual")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # frameworks look up who calls them
    for snippet in code:
        exec(snippet, module.__dict__)
    return module


def wsgi(module: ModuleType) -> Ask:
    app = getattr(module.app, "wsgi_app", module.app)
    browser = Client(app)

    def ask(method: str, address: str) -> tuple[int, str]:
        answer = browser.open(address, method=method, base_url=ORIGIN)
        return answer.status_code, answer.headers.get("Location", "")

    return ask


def asgi(module: ModuleType) -> Ask:
    cookies: dict[str, str] = {}

    async def sent(method: str, path: str, query: str) -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        headers = [(b"host", b"localhost:5000"), (b"cookie", cookie.encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        await module.app({**scope, "headers": headers, "http_version": "1.1"}, receive, send)
        return messages

    def ask(method: str, address: str) -> tuple[int, str]:
        parts = urlsplit(address)
        start = asyncio.run(sent(method, parts.path, parts.query))[0]
        for name, value in start["headers"]:
            if name == b"set-cookie":
                set_cookie = value.decode().partition(";")[0].partition("=")
                cookies[set_cookie[0]] = set_cookie[2]
        return start["status"], dict(start["headers"]).get(b"location", b"").decode()

    return ask


#: Heading of the page: the module that it needs, and how its application is called.
SERVERS: dict[str, tuple[str, Callable[[ModuleType], Ask]]] = {
    "Flask": ("flask", wsgi),
    "Pyramid": ("pyramid", wsgi),
    "Bottle": ("bottle", wsgi),
    "Falcon": ("falcon", wsgi),
    "Plain WSGI": ("werkzeug", wsgi),
    "FastAPI and Starlette": ("fastapi", asgi),
}


def returned(ask: Ask, fake: FakeFinch) -> tuple[int, str]:
    """Status and place, for the browser that has pressed the button, allowed, and come back."""
    status, location = ask("POST", "/connect")
    assert status == 303
    callback = urlsplit(fake.allow(location))
    status, location = ask("GET", f"{callback.path}?{callback.query}")
    # Some frameworks complete an address before they send it.
    return status, location.removeprefix(ORIGIN).partition("&")[0]


@pytest.mark.parametrize("heading", SERVERS)
def test_an_employer_is_connected(
    heading: str, fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework, server = SERVERS[heading]
    pytest.importorskip(framework)
    code = [*snippets("frameworks"), *snippets("frameworks", heading)]
    module = run(code, monkeypatch)

    status, location = returned(server(module), fake)

    assert (status, location) == (303, "/?finch=connected")
    assert len(module.finch.connections.for_customer("acme")) == 1


def test_an_employer_is_connected_with_django(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("django")
    from tests.adapters import django_site

    django_site.set_up()
    from django.test import Client as DjangoClient
    from django.test import override_settings

    code = [*snippets("frameworks"), *snippets("frameworks", "Django")]
    module = run(code, monkeypatch)
    browser = DjangoClient(SERVER_NAME="localhost")

    def ask(method: str, address: str) -> tuple[int, str]:
        answer = browser.generic(method, address)
        return answer.status_code, answer.headers.get("Location", "")

    with override_settings(FINCH=options_from_env(), ROOT_URLCONF=module):
        status, location = returned(ask, fake)
        found = module.finch().connections.for_customer("acme")

    assert (status, location) == (303, "/?finch=connected")
    assert len(found) == 1


def test_the_first_connections_page_lists_what_it_connects(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = snippets("first_connection", "An application of your own")
    module = run(code, monkeypatch)
    browser = module.app.test_client()

    back = fake.allow(browser.post("/connect", base_url=ORIGIN).headers["Location"])
    answer = browser.get(back, follow_redirects=True)

    assert "gusto: company, directory" in answer.text


def test_every_framework_of_the_page_is_run() -> None:
    text = (DOCS / "frameworks.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)

    assert headings == [*SERVERS, "Django", "Another framework"]
