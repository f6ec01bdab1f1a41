"""Reads the body of a callback request, whichever framework has it, for a limited time."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from finch_middleware.errors import ReturnFault, UsageError

BODY_LIMIT_BYTES = 8 * 1024
#: How long reading a body may take; a page's script sends it in one piece.
BODY_SECONDS = 3.0
#: A body that arrives faster may take longer.
_BYTES_PER_SECOND = 100_000


def read_body(request: Any, environ: dict[str, Any], *, limit_bytes: int, parsed: bool) -> bytes:
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


def declared_length(environ: Mapping[str, Any], *, limit_bytes: int) -> int:
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
        end = threading.Timer(self._until - time.monotonic(), end_reading, [self._line])
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


def end_reading(line: socket.socket) -> None:
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
