"""The callback request of any framework, and the visit that it is."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlencode

from werkzeug.datastructures import EnvironHeaders, Headers

from finch_middleware.errors import ReturnFault, UsageError
from finch_middleware.outcomes import Failed, Invalid
from finch_middleware.web.scope import environ_of, in_environ

BODY_LIMIT_BYTES = 8 * 1024
#: How long reading a body may take; a page's script sends it in one piece.
BODY_SECONDS = 3.0
#: A body that arrives faster may take longer.
_BYTES_PER_SECOND = 100_000


class CallbackRequest:
    """
    A request to the callback path.

    Attributes:
        method: ``GET``, ``POST``, …
        query_string: As received, percent-encoded, in WSGI's latin-1 form.
        headers: Case-insensitive.
        from_script: Whether the client is a script that needs JSON, and not a browser.
        environ: The untouched WSGI environ where there is one, for `customer_of`.
    """

    __slots__ = ("_body", "_read", "environ", "from_script", "headers", "method", "query_string")

    def __init__(
        self,
        *,
        method: str = "GET",
        query_string: str = "",
        headers: Mapping[str, str] | Headers | None = None,
        body: bytes = b"",
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.query_string = query_string
        if not isinstance(headers, EnvironHeaders):
            headers = EnvironHeaders(in_environ((headers or {}).items()))
        self.headers = headers
        self.from_script = _needs_json(headers)
        self.environ: Mapping[str, Any] = environ if environ is not None else {}
        self._body: bytes | None = body
        self._read: Callable[..., bytes] | None = None

    @classmethod
    def of(cls, request: object) -> CallbackRequest:
        """
        The callback request of a framework's request or a WSGI environ. Its body is not read yet.

        Werkzeug and Flask, WebOb and Pyramid, Bottle, Falcon, Django and Starlette are recognized
        by the attributes of their requests; none of them is imported.

        Raises:
            UsageError: It is none of these.
        """
        if isinstance(request, cls):
            return request
        environ = request if isinstance(request, dict) else _find_environ(request)
        if not isinstance(environ, dict) or "REQUEST_METHOD" not in environ:
            raise UsageError(
                f"cannot read a {type(request).__name__} as a request: pass the framework's "
                "request, its WSGI environ, or a CallbackRequest"
            )
        callback = cls(
            method=environ["REQUEST_METHOD"],
            query_string=environ.get("QUERY_STRING", ""),
            headers=EnvironHeaders(environ),
            environ=environ,
        )
        callback._body = None
        callback._read = functools.partial(_read_body, request, environ)
        return callback

    @property
    def body(self) -> bytes:
        """
        The body, which is read at first use and only once.

        Raises:
            ReturnFault: ``length_required``, ``too_large``, or ``body`` if it ended early.
        """
        if self._body is None:
            assert self._read is not None
            self._body = self._read(limit_bytes=BODY_LIMIT_BYTES)
        return self._body

    def untouched_body(self, *, limit_bytes: int) -> bytes:
        """
        The bytes that the client sent, for a signature; `body` may be what a framework parsed.

        Raises:
            ReturnFault: As `body`, and ``body`` if the framework kept only a parsed form.
        """
        if self._body is None:
            assert self._read is not None
            self._body = self._read(limit_bytes=limit_bytes, parsed=False)
        if len(self._body) > limit_bytes:
            raise ReturnFault("too_large")
        return self._body

    def abandon_body(self) -> None:
        """
        Let gunicorn not wait for the rest of a body that was refused.

        On a connection that stays open it would, for five seconds in one of its threads.
        """
        line = self.environ.get("gunicorn.socket")
        expected = self.environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in self.environ
        if line is not None and expected and self._body is None:
            _end_reading(line)

    def same_origin(self, origin: str) -> bool:
        """Whether a page of *origin* (scheme, host and port) provably sent this."""
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        return self.headers.get("Origin") == origin

    def from_page_of(self, origins: Collection[str]) -> bool:
        """Whether the Origin header, which no page can forge, is one of *origins*."""
        return self.headers.get("Origin") in origins

    def cookies(self, *, joined: bool = False) -> list[tuple[str, str]]:
        """
        Every cookie, including duplicates, in the order received.

        Cookies of the application may be quoted or contain 8-bit characters. They do not
        affect the tickets, which use a plain alphabet.

        *joined*: also those behind a comma, by which servers join two Cookie fields. Another host
        of the domain can set a cookie whose value looks so, in spite of the `__Host-` prefix.
        """
        header = self.headers.get("Cookie")
        if not header:
            return []
        pairs = (header.replace(",", ";") if joined else header).split(";")
        parts = [pair.strip(" \t").partition("=") for pair in pairs]
        return [(name, value) for name, _, value in parts]

    def __repr__(self) -> str:
        return f"CallbackRequest(method={self.method!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a CallbackRequest cannot be pickled, because that would store its code")


def _needs_json(headers: Headers) -> bool:
    mode = headers.get("Sec-Fetch-Mode")
    if mode:
        return mode != "navigate"
    if "json" in headers.get("Content-Type", ""):
        return True
    accept = headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept


def _find_environ(request: object) -> object:
    """The environ of a framework's request; Django names it META, Falcon env, Starlette scope."""
    for name in ("environ", "META", "env"):
        environ = getattr(request, name, None)
        if isinstance(environ, dict):
            return environ
    scope = getattr(request, "scope", None)
    return environ_of(scope) if isinstance(scope, dict) and scope.get("type") == "http" else None


def _read_body(
    request: Any, environ: dict[str, Any], *, limit_bytes: int, parsed: bool = True
) -> bytes:
    """
    The body of a POST, even if the framework has already read it.

    *parsed*: and even if it has kept only what it parsed.
    """
    if "asgi.scope" in environ and "wsgi.input" not in environ:
        raise UsageError(
            "a view cannot read the body of an ASGI request: add FinchASGIMiddleware, which "
            "handles this path instead"
        )
    length = declared_length(environ, limit_bytes=limit_bytes)
    try:
        body = raw = _read_raw(request, environ, length)
        if length and not raw and parsed:
            body = _encode_parsed(request, environ)
    except Exception:  # each framework has its own for a body that ended early or is too large
        body = raw = b""
    # Half a body may contain half a code, and a body that was consumed is not an empty one.
    if 0 < len(raw) < length or (length and not body):
        raise ReturnFault("body")
    return body


def declared_length(environ: Mapping[str, Any], *, limit_bytes: int = BODY_LIMIT_BYTES) -> int:
    """
    How many bytes a request declares its body to have.

    Raises:
        ReturnFault: ``length_required``, or ``too_large`` for what the component would read.
    """
    declared = environ.get("CONTENT_LENGTH") or ""
    if not (declared.isascii() and declared.isdecimal()):
        raise ReturnFault("length_required")
    if len(declared) > 9 or int(declared) > limit_bytes:
        raise ReturnFault("too_large")
    return int(declared)


def _read_raw(request: Any, environ: dict[str, Any], length: int) -> bytes:
    """At most *length* bytes; none if the framework kept only the parsed form."""
    if request is environ:
        return _Timed(environ["wsgi.input"], environ).read(length)
    if hasattr(request, "META"):  # Django took the stream when it made the request
        request._stream = _limit_time(request._stream, environ)
        return bytes(request.body)
    if hasattr(request, "bounded_stream"):  # Falcon
        return _Timed(request.bounded_stream, environ).read(length)
    environ["wsgi.input"] = _limit_time(environ["wsgi.input"], environ)
    if hasattr(request, "get_data"):  # werkzeug, Flask
        return bytes(request.get_data())
    if hasattr(request.body, "read"):  # Bottle buffers the body in a file, and rewinds it
        return bytes(request.body.read(length))
    return bytes(request.body)  # WebOb, Pyramid


def _limit_time(stream: Any, environ: Mapping[str, Any]) -> Any:
    """*stream* as one that gives up; itself if it is a buffer, which never waits."""
    seekable = getattr(stream, "seekable", None)
    return stream if seekable is not None and seekable() else _Timed(stream, environ)


class _Timed:
    """
    A server's stream, which gives up a slow body after `BODY_SECONDS`.

    Gunicorn shows its socket, so that a single read can be ended too. Any other server has to
    end that itself.
    """

    def __init__(self, stream: Any, environ: Mapping[str, Any]) -> None:
        self._stream = stream
        self._until = time.monotonic() + BODY_SECONDS
        self._line = environ.get("gunicorn.socket")

    def read(self, size: int = -1) -> bytes:
        """Up to *size* bytes; fewer once the time is over."""
        if self._line is None:
            # One byte at a time: most streams wait for as many bytes as were requested.
            return self._pieces(size, at_once=1)
        # The socket's own timeout would begin again with each byte that drips in.
        end = threading.Timer(self._until - time.monotonic(), _end_reading, [self._line])
        end.daemon = True
        end.start()
        try:
            return self._pieces(size, at_once=size)
        finally:
            end.cancel()

    def _pieces(self, size: int, *, at_once: int) -> bytes:
        body = bytearray()
        # Some servers hand out a mebibyte byte by byte in six seconds; a sender gains little by it.
        while len(body) != size and time.monotonic() < self._until + len(body) / _BYTES_PER_SECOND:
            chunk = self._stream.read(min(at_once, size - len(body)) if size > 0 else at_once)
            if not chunk:
                break
            body += chunk
        return bytes(body)

    def seekable(self) -> bool:
        """No: what was read is gone. Django asks from version 6.1 on."""
        return False

    def close(self) -> None:
        self._stream.close()


def _end_reading(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the own method of a TLS socket, which would continue in plain text.
        socket.socket.shutdown(line, socket.SHUT_RD)


def _encode_parsed(request: Any, environ: dict[str, Any]) -> bytes:
    """Encode again what a framework parsed from a body that it did not keep."""
    if hasattr(request, "get_data"):
        return urlencode(list(request.form.items(multi=True))).encode()
    if hasattr(request, "get_media"):
        media = request.get_media()
        as_json = "json" in environ.get("CONTENT_TYPE", "")
        return (json.dumps(media) if as_json else urlencode(media, doseq=True)).encode()
    return b""


@dataclass(slots=True, kw_only=True)
class Visit:
    """
    One request to one of our paths.

    Attributes:
        reference: Random; on the person's page and in the log.
        return_to: Where the person is sent afterwards, as far as is known by now.
        began: On the monotonic clock.
    """

    reference: str
    return_to: str
    began: float

    @classmethod
    def now(cls, *, return_to: str) -> Visit:
        """A visit that begins now."""
        return cls(reference=new_reference(), return_to=return_to, began=time.monotonic())

    def invalid(self, reason: str) -> Invalid:
        return Invalid(reference=self.reference, return_to=self.return_to, reason=reason)

    def failed(
        self, reason: str, *, retry_after: int | None = None, request_id: str | None = None
    ) -> Failed:
        return Failed(
            reference=self.reference,
            return_to=self.return_to,
            request_id=request_id,
            reason=reason,
            retry_after=retry_after,
        )


def new_reference() -> str:
    """Eight letters and digits that can be read out on the telephone: no 0, 1, 8, 9."""
    return base64.b32encode(os.urandom(5)).decode()
