"""
ASGI: the twin of `wsgi` on the same component; the blocking work runs in threads of its own.

::

    app.add_middleware(FinchASGIMiddleware, finch=finch)

    @app.post("/connect")
    def connect(request: Request) -> Response:      # not "async def": `begin` blocks
        opened = finch.begin(request=environ_of(request.scope), customer_id=..., ...)
        return to_starlette(opened)
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from finch_middleware.adapters.threads import Threads
from finch_middleware.connect import FinchConnect
from finch_middleware.duplicates import WAITING_THREADS
from finch_middleware.outcomes import Response
from finch_middleware.web.request import BODY_LIMIT_BYTES

if TYPE_CHECKING:
    from starlette.responses import Response as StarletteResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

#: As many again as may wait for an exchange that another thread makes, so that some are left
#: to make one. The event loop's own pool, which has six on two cores, stays the application's.
THREADS = 2 * WAITING_THREADS


class FinchASGIMiddleware:
    """
    Answers the callback and the begin path, forwards all else with the very same objects.

    Own is an HTTP request whose path is exactly such a path, below whatever root_path.
    Construction does no I/O and starts no thread; it may come before a fork.

    Attributes:
        finch: The component that answers.
    """

    __slots__ = ("_app", "_paths", "_threads", "finch")

    def __init__(self, app: ASGIApplication, finch: FinchConnect) -> None:
        self._app = app
        self._paths = finch.paths
        self._threads = Threads(name="finch-asgi", most=THREADS)
        self.finch = finch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        answer = self._paths.get(_path_info(scope)) if scope["type"] == "http" else None
        if answer is None:
            return await self._app(scope, receive, send)
        environ = environ_of(scope)
        environ["wsgi.input"] = io.BytesIO(await _body(environ, receive))
        # As asyncio.to_thread does: customer_of finds what the application keeps in contextvars.
        within = contextvars.copy_context().run
        work = self._threads.submit(functools.partial(within, _answered, answer, environ))
        # A client that goes away cancels the wait, and not the work: the token is stored.
        status, headers, body = await asyncio.wrap_future(work)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None


def to_starlette(response: Response) -> StarletteResponse:
    """The same answer as Starlette's and FastAPI's, every cookie byte for byte."""
    from starlette.responses import Response as StarletteResponse

    with response:
        answer = StarletteResponse(response.get_data(), status_code=response.status_code)
    answer.raw_headers = _lines(response.headers)
    return answer


def _answered(
    answer: Callable[[object], Response], environ: dict[str, Any]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body, as ASGI sends them."""
    with answer(environ) as response:  # closed at the end, as PEP 3333 bids servers
        parts, status, headers = response.get_wsgi_response(environ)
        return int(status.split()[0]), _lines(headers), b"".join(parts)


def _lines(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _path_info(scope: Scope) -> str:
    """The path below the mount point, as WSGI has it: UTF-8 bytes read as latin-1."""
    path, root = scope["path"], scope.get("root_path", "")
    # Servers differ in whether path repeats root_path; the specification says that it does.
    if root and path.startswith(root + "/"):
        path = path[len(root) :]
    return _as_wsgi(path)


def _as_wsgi(text: str) -> str:
    # Half a surrogate pair, which no UTF-8 holds, still is somebody's path, and not ours to refuse.
    return text.encode(errors="surrogatepass").decode("latin-1")


def environ_of(scope: Scope) -> dict[str, Any]:
    """
    What the component reads of a request, in WSGI's words (PEP 3333); its body is not in it.

    `customer_of` finds the scope itself under ``asgi.scope``, a Starlette session in it.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _as_wsgi(scope.get("root_path", "")),
        "PATH_INFO": _path_info(scope),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "asgi.scope": scope,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        # As WSGI's servers do: X_Remote_User would pass for the X-Remote-User of a trusted proxy.
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        # HTTP/2 sends cookies in pieces; everything else that repeats is a list.
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return environ


async def _body(environ: dict[str, Any], receive: Receive) -> bytes:
    """The body as far as the component would read it; a client that left has sent less."""
    body = b""
    while len(body) <= BODY_LIMIT_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return body
