"""ASGI: does for ASGI what `FinchMiddleware` does for WSGI; see docs/frameworks.md."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import io
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from finch_middleware.connect import FinchConnect
from finch_middleware.errors import ReturnFault
from finch_middleware.middleware import require_order
from finch_middleware.outcomes import Response
from finch_middleware.storage.forks import PerProcess
from finch_middleware.web.body import BODY_SECONDS, declared_length
from finch_middleware.web.scope import Scope as Scope, environ_of, path_info

if TYPE_CHECKING:
    from starlette.responses import Response as StarletteResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A quarter of them may wait for another thread's exchange.
THREADS = 16


class FinchASGIMiddleware:
    """
    Responds at the component's own paths, below any root_path; forwards everything else unchanged.

    The blocking work runs in a thread pool of this middleware, so the event loop and its default
    executor stay free. It is finished even if the client disconnects or the process begins to
    exit; the deadlines of Finch and of the storage bound the wait.
    Construction does no I/O and starts no thread; it may come before a fork.

    *finch* may be a function that returns the component. It is called at each HTTP request, so
    the application may make the component in its lifespan.
    """

    __slots__ = ("_app", "_component", "_pool")

    def __init__(
        self, app: ASGIApplication, finch: FinchConnect | Callable[[], FinchConnect]
    ) -> None:
        if isinstance(app, FinchConnect) or not inspect.isroutine(finch):
            require_order(app, finch, middleware="FinchASGIMiddleware")
        self._app = app
        self._component = finch
        self._pool = PerProcess(lambda: ThreadPoolExecutor(THREADS, "finch-asgi"))

    @property
    def finch(self) -> FinchConnect:
        """The component that responds."""
        component = self._component
        return component if isinstance(component, FinchConnect) else component()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        finch = self.finch if scope["type"] == "http" else None
        respond = finch.paths.get(path_info(scope)) if finch else None
        if finch is None or respond is None:
            return await self._app(scope, receive, send)
        environ = environ_of(scope)
        body = await _body(environ, receive, limit_bytes=finch.body_limit_bytes(environ))
        environ["wsgi.input"] = io.BytesIO(body)
        # customer_of may read what the application keeps in contextvars.
        context = contextvars.copy_context()
        work = asyncio.get_running_loop().run_in_executor(
            self._pool[os.getpid()], context.run, _sendable, respond, environ
        )
        # A client that disconnects cancels only the wait: the queue may hold the only copy of a
        # code, and the token is stored.
        status, headers, body = await asyncio.shield(work)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        return await send({"type": "http.response.body", "body": body})


def to_starlette(response: Response) -> StarletteResponse:
    """The same response as one of Starlette and FastAPI, every cookie byte for byte."""
    from starlette.responses import Response as StarletteResponse

    with response:
        converted = StarletteResponse(response.get_data(), status_code=response.status_code)
    converted.raw_headers = _raw_headers(response.headers)
    return converted


def _sendable(
    respond: Callable[[object], Response], environ: dict[str, Any]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body, as ASGI sends them."""
    with respond(environ) as response:  # PEP 3333: a server closes the response
        parts, status, headers = response.get_wsgi_response(environ)
        return int(status.split()[0]), _raw_headers(headers), b"".join(parts)


def _raw_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _body(environ: dict[str, Any], receive: Receive, *, limit_bytes: int) -> bytes:
    """What the component reads of the body; shorter if the client disconnects or is slow."""
    body = b""
    with contextlib.suppress(ReturnFault, TimeoutError):
        length = declared_length(environ, limit_bytes=limit_bytes) if limit_bytes else 0
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < length:
                message = await receive()
                body += message.get("body", b"")
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
    return body
