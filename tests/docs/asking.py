"""A browser, as far as the manual's applications need one: WSGI's and ASGI's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from werkzeug.http import parse_cookie
from werkzeug.test import Client

#: Method and address; status and the place that the browser is sent to.
Ask = Callable[[str, str], tuple[int, str]]


def asking(app: Any, *, origin: str, set_cookie: str = "") -> Ask:
    """A browser that is at *origin*, and has been given *set_cookie* before."""
    given = parse_cookie(set_cookie.partition(";")[0])
    if inspect.iscoroutinefunction(app.__call__):
        return _Asgi(app, origin=origin, cookies=dict(given.items()))
    browser = Client(getattr(app, "wsgi_app", app))
    for name, value in given.items():
        browser.set_cookie(name, value)

    def ask(method: str, address: str) -> tuple[int, str]:
        answer = browser.open(address, method=method, base_url=origin)
        return answer.status_code, answer.headers.get("Location", "")

    return ask


class _Asgi:
    def __init__(self, app: Any, *, origin: str, cookies: dict[str, str]) -> None:
        self._app = app
        self._host = urlsplit(origin).netloc
        self._cookies = cookies

    def __call__(self, method: str, address: str) -> tuple[int, str]:
        start = asyncio.run(self._sent(method, address))[0]
        for name, value in start["headers"]:
            if name == b"set-cookie":
                self._cookies |= parse_cookie(value.decode().partition(";")[0])
        return start["status"], dict(start["headers"]).get(b"location", b"").decode()

    async def _sent(self, method: str, address: str) -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        parts = urlsplit(address)
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": [(b"host", self._host.encode()), (b"cookie", cookie.encode())],
        }
        await self._app(scope, receive, send)
        return messages
