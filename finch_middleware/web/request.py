"""The callback request, as any framework hands it over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode

from werkzeug.datastructures import EnvironHeaders, Headers

from finch_middleware.errors import ReturnFault, UsageError

BODY_LIMIT_BYTES = 8 * 1024
#: How long a body that we read ourselves may take: a page's script sends it in one piece.
BODY_SECONDS = 3.0

#: Any of these says that no person is looking yet.
_PREFETCH = (
    ("Sec-Purpose", "prefetch"),
    ("Purpose", "prefetch"),
    ("Purpose", "preview"),
    ("X-Purpose", "preview"),
    ("X-Moz", "prefetch"),
)


class CallbackRequest:
    """
    What came to the callback path.

    Attributes:
        method: ``GET``, ``POST``, …
        query_string: As received, percent-encoded, in WSGI's latin-1 form.
        headers: Case-insensitive.
        environ: The untouched WSGI environ where there is one, for `customer_of`.
    """

    __slots__ = ("_body", "_read", "environ", "headers", "method", "query_string")

    def __init__(
        self,
        *,
        method: str = "GET",
        query_string: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.query_string = query_string
        self.headers = Headers(list((headers or {}).items()))
        self.environ: Mapping[str, Any] = environ if environ is not None else {}
        self._body: bytes | None = body
        self._read: Callable[[], bytes] | None = None

    @classmethod
    def of(cls, request: object) -> CallbackRequest:
        """
        The request of a framework, or a WSGI environ, understood. Nothing of its body is read yet.

        Werkzeug and Flask, WebOb and Pyramid, Bottle, Falcon and Django are known by what
        their requests offer; none of them is imported.

        Raises:
            UsageError: It is none of these.
        """
        if isinstance(request, cls):
            return request
        environ = request if isinstance(request, dict) else _environ_of(request)
        if not isinstance(environ, dict) or "REQUEST_METHOD" not in environ:
            raise UsageError(
                f"cannot read a {type(request).__name__} as a request: pass the framework's "
                "request, its WSGI environ, or a CallbackRequest"
            )
        understood = cls(
            method=environ["REQUEST_METHOD"],
            query_string=environ.get("QUERY_STRING", ""),
            environ=environ,
        )
        understood.headers = EnvironHeaders(environ)
        understood._body = None
        understood._read = lambda: _body_of(request, environ)
        return understood

    @property
    def body(self) -> bytes:
        """
        The body, read when first asked for and at most once.

        Raises:
            ReturnFault: ``length_required``, ``too_large``, or ``body`` where it broke off.
        """
        if self._body is None:
            assert self._read is not None
            self._body = self._read()
        return self._body

    @property
    def prefetch(self) -> bool:
        """Whether a browser or a link preview loads this before anybody asked for it."""
        return any(word in self.headers.get(name, "").lower() for name, word in _PREFETCH)

    @property
    def from_script(self) -> bool:
        """Whether a script waits for JSON, rather than a browser for a page."""
        mode = self.headers.get("Sec-Fetch-Mode")
        if mode:
            return mode != "navigate"
        if "json" in self.headers.get("Content-Type", ""):
            return True
        accept = self.headers.get("Accept", "")
        return "application/json" in accept and "text/html" not in accept

    def same_origin(self, origin: str) -> bool:
        """Whether a page of *origin* (scheme, host and port) provably sent this."""
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        return self.headers.get("Origin") == origin

    def from_page_of(self, origins: Collection[str]) -> bool:
        """Whether the Origin header, which no page can forge, is one of *origins*."""
        return self.headers.get("Origin") in origins

    def cookies(self) -> Iterator[tuple[str, str]]:
        """
        Every cookie, duplicates too, in the order received.

        A tolerant reading: an odd neighbour, quoted or 8-bit, is passed over and never
        costs us ours, which are of a plain alphabet.
        """
        for header in self.headers.getlist("Cookie"):
            for pair in header.split(";"):
                name, _, value = pair.strip(" \t").partition("=")
                yield name, value

    def __repr__(self) -> str:
        return f"CallbackRequest(method={self.method!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a CallbackRequest cannot be pickled: its code would be")


def _environ_of(request: object) -> object:
    """The WSGI environ inside a framework's request; Django calls it META, Falcon env."""
    for name in ("environ", "META", "env"):
        environ = getattr(request, name, None)
        if isinstance(environ, dict):
            return environ
    return None


def _body_of(request: Any, environ: dict[str, Any]) -> bytes:
    """The body of a POST, also when the framework has read or parsed it already."""
    length = _declared_length(environ)
    try:
        body = raw = _raw_body(request, environ, length)
        if length and not raw:
            body = _parsed_body(request, environ)
    except Exception:  # each framework has its own for a body that broke off or is too large
        body = raw = b""
    # Half a body may hold half a code, and one that is gone does not say that there was none.
    if 0 < len(raw) < length or (length and not body):
        raise ReturnFault("body")
    return body


def _declared_length(environ: Mapping[str, Any]) -> int:
    declared = environ.get("CONTENT_LENGTH") or ""
    if not (declared.isascii() and declared.isdecimal()):
        raise ReturnFault("length_required")
    if len(declared) > 9 or int(declared) > BODY_LIMIT_BYTES:
        raise ReturnFault("too_large")
    return int(declared)


def _raw_body(request: Any, environ: dict[str, Any], length: int) -> bytes:
    """At most *length* bytes; none where the framework kept only what it has parsed."""
    if request is environ:
        return _read_up_to(environ["wsgi.input"], length)
    if hasattr(request, "get_data"):  # werkzeug, Flask
        return bytes(request.get_data())
    if hasattr(request, "META"):  # Django
        return bytes(request.body)
    if hasattr(request, "bounded_stream"):  # Falcon
        return _read_up_to(request.bounded_stream, length)
    if hasattr(request.body, "read"):  # Bottle keeps what it has read in a file, and rewinds it
        return bytes(request.body.read(length))
    return bytes(request.body)  # WebOb, Pyramid


def _read_up_to(stream: Any, length: int) -> bytes:
    """
    Up to *length* bytes, never asking for more: a server's stream may block past its end.

    What comes too slowly is left half read. Only the server can end a single read.
    """
    body, until = bytearray(), time.monotonic() + BODY_SECONDS
    while len(body) < length and time.monotonic() < until:
        # By the byte: most servers' streams wait until all that was asked for is there.
        chunk = stream.read(1)
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _parsed_body(request: Any, environ: dict[str, Any]) -> bytes:
    """What a framework has parsed of a body that it did not keep, written out once more."""
    if hasattr(request, "get_data"):
        return urlencode(list(request.form.items(multi=True))).encode()
    if hasattr(request, "get_media"):
        media = request.get_media()
        as_json = "json" in environ.get("CONTENT_TYPE", "")
        return (json.dumps(media) if as_json else urlencode(media, doseq=True)).encode()
    return b""
