"""The callback request of any framework, its parameters, and the visit that it is."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from werkzeug.datastructures import EnvironHeaders, Headers

from finch_middleware.errors import ReturnFault, UsageError
from finch_middleware.outcomes import Failed, Invalid
from finch_middleware.secret import Secret
from finch_middleware.tickets import flow_id_of
from finch_middleware.web.body import BODY_LIMIT_BYTES, end_reading, read_body
from finch_middleware.web.scope import environ_of, in_environ

QUERY_LIMIT_BYTES = 4 * 1024
PARAMETERS_LIMIT = 20

# RFC 6749, appendix A.11, limits a code to visible ASCII; Finch's are UUIDs.
_CODE = re.compile(r"[\x21-\x7e]{1,512}")
#: The form of a ticket's state: 16 random bytes in base64url.
_STATE = re.compile(r"[A-Za-z0-9_-]{22}")
# A browser escapes control characters and 8-bit bytes; escaped controls are refused as well.
_FORM = re.compile(r"(?:[!-$&-~]|%(?:[2-689A-Fa-f][0-9A-Fa-f]|7[0-9A-Ea-e]))*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# In any of these headers, either word shows that no person has opened the page yet.
_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_EARLY = re.compile("prefetch|preview", re.IGNORECASE)
_ONCE = ("code", "state", "error")
_DECLINED = {None: "closed", "access_denied": "access_denied"}


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

    __slots__ = ("_body", "_source", "environ", "from_script", "headers", "method", "query_string")

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
        self._source: object = None

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
        callback._body, callback._source = None, request
        return callback

    @property
    def body(self) -> bytes:
        """
        The body, which is read at first use and only once.

        Raises:
            ReturnFault: ``length_required``, ``too_large``, or ``body`` if it ended early.
        """
        return self._read(limit_bytes=BODY_LIMIT_BYTES)

    def untouched_body(self, *, limit_bytes: int) -> bytes:
        """
        The bytes that the client sent, for a signature; `body` may be what a framework parsed.

        Raises:
            ReturnFault: As `body`, and ``body`` if the framework kept only a parsed form.
        """
        body = self._read(limit_bytes=limit_bytes, parsed=False)
        if len(body) > limit_bytes:
            raise ReturnFault("too_large")
        return body

    def _read(self, *, limit_bytes: int, parsed: bool = True) -> bytes:
        if self._body is None:
            environ: Any = self.environ
            self._body = read_body(self._source, environ, limit_bytes=limit_bytes, parsed=parsed)
        return self._body

    def abandon_body(self) -> None:
        """Let no thread of gunicorn wait five seconds for the rest of a body that was refused."""
        line = self.environ.get("gunicorn.socket")
        expected = self.environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in self.environ
        if line is not None and expected and self._body is None:
            end_reading(line)

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
        Every cookie as received, including duplicates; tickets use a plain alphabet.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackParams:
    """
    The parameters of a callback request. None of them is trusted yet.

    Attributes:
        flow_id: Of the flow that the state names; None without a state of a ticket's form.
        foreign_state: There was a state, but not in the form of a ticket's state.
        declined: Why there is no code: ``access_denied``, ``closed`` or ``error``.
    """

    code: Secret | None = field(default=None, repr=False)
    flow_id: str | None = None
    foreign_state: bool = False
    declined: str = "closed"


def parse_callback(request: CallbackRequest) -> CallbackParams:
    """
    The parameters of *request*.

    Raises:
        ReturnFault: It cannot be a callback, or a parameter is repeated, contradictory or damaged.
    """
    if request.method not in ("GET", "POST"):
        raise ReturnFault("method")
    if _EARLY.search(" ".join([request.headers.get(name, "") for name in _PURPOSES])):
        raise ReturnFault("prefetch")
    try:
        return _read_parameters(request)
    except ReturnFault as fault:
        reason = fault.reason
    # A new error, because the frames of the first one hold the parameters.
    raise ReturnFault(reason)


def _read_parameters(request: CallbackRequest) -> CallbackParams:
    pairs = _parse_form(request.query_string)
    if request.method == "POST":
        pairs += _parse_body(request)
    parameters = _unrepeated(pairs, once=_ONCE)
    code, state, error = map(parameters.get, _ONCE)
    if code is not None and (error is not None or not _CODE.fullmatch(code)):
        raise ReturnFault("malformed")
    ours = state is not None and _STATE.fullmatch(state) is not None
    return CallbackParams(
        # One of our words, because a page shows nothing of the request.
        declined=_DECLINED.get(error, "error"),
        code=Secret(code) if code is not None else None,
        flow_id=flow_id_of(state) if state is not None and ours else None,
        foreign_state=state is not None and not ours,
    )


def parse_query(request: CallbackRequest, *, once: str) -> dict[str, str]:
    """The parameters of the query; a ReturnFault if it is damaged, or repeats *once*."""
    return _unrepeated(_parse_form(request.query_string), once=(once,))


def _unrepeated(pairs: list[tuple[str, str]], *, once: tuple[str, ...]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    if len(names) > PARAMETERS_LIMIT or any(names.count(name) > 1 for name in once):
        raise ReturnFault("malformed")
    return dict(pairs)


def _parse_body(request: CallbackRequest) -> list[tuple[str, str]]:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _parse_form(request.body.decode("latin-1"))
    if kind == "application/json":
        return _parse_json(request.body)
    if request.headers.get("Content-Length", "0") == "0" and not kind:
        return []
    raise ReturnFault("body")


def _parse_form(text: str) -> list[tuple[str, str]]:
    """Pairs of ``application/x-www-form-urlencoded``; only ``&`` separates."""
    if len(text) > QUERY_LIMIT_BYTES or not _FORM.fullmatch(text):
        raise ReturnFault("malformed")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise ReturnFault("malformed") from None


def _parse_json(body: bytes) -> list[tuple[str, str]]:
    """The members of a JSON object. A null counts as absent: the SDK's ``state`` may be null."""
    try:
        # An array is a list, and a dict would hide a repeated member.
        members = json.loads(body.decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, tuple):
        raise ReturnFault("body")
    names = [name for name, _ in members]
    if any(names.count(name) > 1 for name in _ONCE):
        raise ReturnFault("malformed")
    return [(name, _check_text(name, value)) for name, value in members if value is not None]


def _check_text(name: str, value: object) -> str:
    if name in _ONCE and not isinstance(value, str):
        raise ReturnFault("malformed")
    text = value if isinstance(value, str) else ""
    if _CONTROL.search(text):
        raise ReturnFault("malformed")
    return text


def _new_reference() -> str:
    """Eight letters and digits that can be read out on the telephone: no 0, 1, 8, 9."""
    return base64.b32encode(os.urandom(5)).decode()


@dataclass(slots=True, kw_only=True)
class Visit:
    """
    One request to one of our paths.

    Attributes:
        reference: Random; on the person's page and in the log.
        return_to: Where the person is sent afterwards, as far as is known by now.
        began: On the monotonic clock.
    """

    reference: str = field(default_factory=_new_reference)
    return_to: str
    began: float = field(default_factory=lambda: time.monotonic())

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
