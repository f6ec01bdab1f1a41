"""
Finch's answers, read strictly and remembered whole.

Whoever answers is not trusted: bytes become a value of one meaning and of a form that every
storage takes, or nothing. No function here raises anything but where it says so, because a
traceback through these frames would show a token.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from finch_middleware.config.urls import is_loopback
from finch_middleware.finch.transport import FinchResponse
from finch_middleware.secret import Secret

_DEPTH_LIMIT = 16
_TEXT_LIMIT = 255
_TOKEN_LIMIT = 4096
_URL_LIMIT = 4096
_PRODUCTS_LIMIT = 64
_REQUEST_ID_LIMIT = 128

# What both of Finch's answers about a token have.
_EXPLAINED = (
    "connection_id",
    "customer_id",
    "provider_id",
    "products",
    "client_type",
    "connection_type",
)

# The documented texts beside the two ids.
_WORDS = ("token_type", "provider_id", "client_type", "connection_type")

_NAME = re.compile(r"[a-z_]{1,64}")
_VISIBLE = re.compile(r"[!-~]+")
_PRINTABLE = re.compile(r"[ -~]+")
# What no database column takes: control characters and halves of surrogate pairs.
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# RFC 9110 5.6.7, the one form that may be sent.
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConnectSession:
    """
    A Connect session that Finch created; it opens Finch Connect.

    Attributes:
        session_id: For Finch's JavaScript SDK (the embedded flow).
        connect_url: Where the browser goes (the redirect flow).
    """

    session_id: str
    connect_url: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    The response of Finch's token endpoint, checked for its form only.

    Attributes:
        document: The whole response as JSON text, including fields unknown to this version.
        connection_id: Finch's stable id of the connection. None if the response has none or if
            another field is malformed; such a grant stays in quarantine until an introspection
            completes it.
        customer_id: The id that our server set when it created the session, as text; None if it
            is neither text nor a whole number.
    """

    access_token: Secret
    document: Secret
    connection_id: str | None
    customer_id: str | None
    provider_id: str
    products: tuple[str, ...]
    client_type: str
    connection_type: str
    request_id: str | None = None


def acceptable_url(url: object) -> bool:
    """Whether it is an https URL, or an http one that does not leave this machine."""
    if not isinstance(url, str) or len(url) > _URL_LIMIT or not _VISIBLE.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )


def retry_after_seconds(answer: FinchResponse) -> float | None:
    """Seconds, from the number or the date of the header; None for anything else."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    if not _HTTP_DATE.fullmatch(value):
        return None
    try:
        instant = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (instant.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def request_id(answer: FinchResponse) -> str | None:
    """The Finch-Request-Id, if it can be shown as it is."""
    value = answer.headers.get("Finch-Request-Id", "")
    if len(value) > _REQUEST_ID_LIMIT or not _PRINTABLE.fullmatch(value):
        return None
    return value


def error_name(answer: FinchResponse) -> str:
    """Finch's name of the error, such as ``invalid_grant_error``; empty if it has none."""
    name = (read_fields(answer) or {}).get("name")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def read_session(answer: FinchResponse) -> ConnectSession | None:
    """The Connect session, if the answer holds one that a browser can be sent to."""
    fields = read_fields(answer) or {}
    session_id, connect_url = fields.get("session_id"), fields.get("connect_url")
    if not isinstance(session_id, str) or len(session_id) > _TEXT_LIMIT:
        return None
    if not _VISIBLE.fullmatch(session_id) or not acceptable_url(connect_url):
        return None
    return ConnectSession(session_id, str(connect_url), request_id=request_id(answer))


def read_grant(answer: FinchResponse) -> Grant | str:
    """
    The grant, or the one word for what is wrong with the answer.

    A token in hand is never thrown away. An id of another form than Finch documents is None in
    the grant, and so is connection_id where anything else documented is odd: such a grant is
    quarantined until `completed_grant` explains it.
    """
    if answer.body is None:
        return str(answer.fault)
    try:
        text = answer.body.decode()
        document = _strict_json(text)
    except ValueError:
        return "not_json"
    return _grant_of(document, text=text, request_id=request_id(answer)) or "wrong_shape"


def completed_grant(answer: Secret, told: Mapping[str, object]) -> Grant | None:
    """
    The grant of an answer that lacked something, completed by what ``/introspect`` tells.

    Its connection_id is None where both together still leave something odd.
    """
    completed = {name: told[name] for name in _EXPLAINED if told.get(name) is not None}
    # Whoever told has just taken the token as a bearer's.
    document = {**json.loads(answer.reveal()), **completed, "token_type": "bearer"}
    return _grant_of(document, text=json.dumps(document), request_id=None)


def _grant_of(document: object, *, text: str, request_id: str | None) -> Grant | None:
    """A grant of whatever holds a token; what else is odd is left for introspect to explain."""
    fields = document if isinstance(document, dict) else {}
    token = _token(fields.get("access_token"))
    if token is None:
        return None
    words = {name: _text(fields.get(name)) for name in _WORDS}
    products = _products(fields.get("products"))
    odd = None in words.values() or products is None or not _is_bearer(words["token_type"])
    return Grant(
        access_token=token,
        document=Secret(text),
        # A grant without it is quarantined: kept, and given to nobody.
        connection_id=None if odd else _text(fields.get("connection_id")) or None,
        customer_id=_customer_id(fields.get("customer_id")) or None,
        provider_id=words["provider_id"] or "",
        products=products or (),
        client_type=words["client_type"] or "",
        connection_type=words["connection_type"] or "",
        request_id=request_id,
    )


def _is_bearer(token_type: str | None) -> bool:
    return token_type is not None and token_type.lower() in ("", "bearer")


def _token(value: object) -> Secret | None:
    if not isinstance(value, str) or len(value) > _TOKEN_LIMIT or not _PRINTABLE.fullmatch(value):
        return None
    return Secret(value)


def _customer_id(value: object) -> str | None:
    # Some of Finch's examples have a number; True and 12.0 are nobody's id.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _text(value)


def _text(value: object) -> str | None:
    """Empty where there is none; None for what is no text that every storage takes."""
    if value is None or value == "":
        return ""
    return value if isinstance(value, str) and storable(value) else None


def _products(value: object) -> tuple[str, ...] | None:
    """Empty where there are none; None for what is no list of them."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _PRODUCTS_LIMIT:
        return None
    if not all(isinstance(product, str) and storable(product) for product in value):
        return None
    return tuple(value)


def storable(text: str) -> bool:
    """Whether it is a text that every storage takes."""
    return 0 < len(text) <= _TEXT_LIMIT and not _UNSTORABLE.search(text)


def read_fields(answer: FinchResponse) -> dict[str, Any] | None:
    """The answer's JSON object; None where there is no body, or another one."""
    if answer.body is None:
        return None
    try:
        document = _strict_json(answer.body.decode())
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _strict_json(text: str) -> object:
    """
    The one meaning that *text* has.

    Raises:
        ValueError: It has none or several: nested deeper than any answer of Finch's, a name
            twice in one object, NaN or a number beyond a float's range.
    """
    _bound_depth(text)
    return json.loads(
        text,
        object_pairs_hook=_unique_names,
        parse_float=_finite,
        parse_constant=_finite,
    )


def _bound_depth(text: str) -> None:
    # First of all: json itself answers deep nesting with a RecursionError.
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise ValueError("nested too deeply")
        elif char in "]}":
            depth -= 1


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
