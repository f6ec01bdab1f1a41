"""
Parses Finch's responses strictly, and keeps every field of a grant.

The sender is not trusted: a body must have exactly one meaning, and its texts must fit every
storage. Only functions that document `Raises` raise, because a traceback through these frames
would show a token.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from finch_middleware.config.urls import fault_of_address
from finch_middleware.records import Entity, Grant
from finch_middleware.secret import Secret

_DEPTH_LIMIT = 16
_URL_LIMIT = 4096
_PRODUCTS_LIMIT = 64
_MESSAGE_LIMIT = 300
#: Finch's pages have two words, or two spellings, for one status.
_SYNONYMS = {"error_reauth": "reauth", "error_no_acount_setup": "error_no_account_setup"}

# The documented texts, without the two ids.
_TEXTS = ("token_type", "provider_id", "client_type", "connection_type")
# The fields of a grant that an introspection may have as well.
_INTROSPECTED = (*_TEXTS, "connection_id", "customer_id", "products")

_NAME = re.compile(r"[a-z_]{1,64}")
_BRACKETS = re.compile(r"[][{}]")
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(r"[ -~]{1,4096}")
_REQUEST_ID = re.compile(r"[ -~]{1,128}")
_SESSION_ID = re.compile(r"[!-~]{1,255}")
# No database column takes control characters or lone surrogates.
_STORABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,255}")


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
class FinchResponse:
    """
    A response: its status, and its body if it was read completely.

    Attributes:
        headers: Their names ignore case.
        body: None if there is a `fault`. Also None for redirects and server errors, whose bodies
            are not read.
        fault: ``encoded``, ``too_large``, ``timeout`` or ``reset``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    fault: str | None = None

    @property
    def request_id(self) -> str | None:
        """The Finch-Request-Id, or None if it is not short printable ASCII."""
        value = self.headers.get("Finch-Request-Id", "")
        return value if _REQUEST_ID.fullmatch(value) else None

    def retry_after_seconds(self) -> float | None:
        """The seconds that Retry-After asks for, as a number or a date; None if unreadable."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None

    def fields(self) -> dict[str, Any]:
        """The JSON object of the body; empty if the body is absent or anything else."""
        try:
            document = strict_json((self.body or b"").decode())
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def error_name(self, field: str = "name") -> str:
        """Finch's name for the error, such as ``invalid_grant_error``; empty if there is none."""
        name = self.fields().get(field)
        return name if isinstance(name, str) and _NAME.fullmatch(name) else ""

    def error_message(self) -> Secret:
        """Finch's sentence about the error, in printable characters; it may quote the request."""
        return Secret(_sentence(self.fields().get("message")))

    def session(self) -> ConnectSession | None:
        """The Connect session, or None if the response has no usable one."""
        fields = self.fields()
        session_id, connect_url = fields.get("session_id"), fields.get("connect_url")
        if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
            return None
        if not isinstance(connect_url, str) or len(connect_url) > _URL_LIMIT:
            return None
        if fault_of_address(connect_url):
            return None
        return ConnectSession(session_id, connect_url, request_id=self.request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoResponse:
    """
    A request without a response.

    Attributes:
        began: Whether the first byte of the request may have left this machine.
        reason: ``timeout``, ``reset`` or ``too_large``; ``unreachable`` if it had not begun.
        again: Whether another try may succeed; False if the request had begun.
    """

    began: bool
    reason: str
    again: bool = False


def _sentence(value: object) -> str:
    """Finch's words to a person, cut, in printable characters; empty if there are none."""
    text = value if isinstance(value, str) else ""
    return "".join(each for each in text if each.isprintable())[:_MESSAGE_LIMIT]


def read_grant(response: FinchResponse) -> Grant | str:
    """
    The grant, or one word for what is wrong with the response.

    A received token is never discarded. An id of an undocumented form becomes None, and if any
    other field is malformed, connection_id becomes None: such a grant stays in quarantine until
    `completed_grant` completes it.
    """
    if response.body is None:
        return str(response.fault)
    try:
        text = response.body.decode()
        document = strict_json(text)
    except ValueError:
        return "not_json"
    return _grant_of(document, text=text, request_id=response.request_id) or "wrong_shape"


def completed_grant(document: Secret, introspection: Mapping[str, object]) -> Grant | None:
    """
    The grant of an incomplete *document*, completed by the response of ``/introspect``.

    Its connection_id is None if a field of the two together is still malformed.
    """
    known = {name: introspection.get(name) for name in _INTROSPECTED}
    completed = {name: value for name, value in known.items() if value is not None}
    # Finch has just accepted the token as a bearer token.
    fields = {**json.loads(document.reveal()), **completed, "token_type": "bearer"}
    return _grant_of(fields, text=json.dumps(fields), request_id=None)


def _grant_of(document: object, *, text: str, request_id: str | None) -> Grant | None:
    """The grant of any document with a usable token; None without one."""
    fields = document if isinstance(document, dict) else {}
    token = fields.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return None
    texts = {name: _text(fields.get(name)) for name in _TEXTS}
    products = _products(fields.get("products"))
    bearer = (texts["token_type"] or "bearer").lower() == "bearer"
    customer_id = _customer_id(fields.get("customer_id"))
    malformed = None in (*texts.values(), products, customer_id) or not bearer
    return Grant(
        connection_id=None if malformed else _text(fields.get("connection_id")) or None,
        customer_id=customer_id or None,
        provider_id=texts["provider_id"] or "",
        products=products or (),
        client_type=texts["client_type"] or "",
        connection_type=texts["connection_type"] or "",
        entity_ids=_entity_ids(fields.get("entity_ids")),
        request_id=request_id,
        document=Secret(text),
    )


def _customer_id(value: object) -> str | None:
    # Finch's examples include a whole number; bool is a subclass of int.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _text(value)


def _text(value: object) -> str | None:
    """The text, empty if absent; None if a storage could not take it."""
    if value is None:
        return ""
    return value if isinstance(value, str) and _STORABLE.fullmatch(value) else None


def storable(value: object) -> str | None:
    """The text, if there is one that every storage takes."""
    return _text(value) or None


def _entity_ids(value: object) -> tuple[str, ...]:
    """The ids that have the form of one; a malformed one must not cost the token."""
    ids = value if isinstance(value, list) else []
    return tuple(dict.fromkeys(filter(_text, ids)))


def read_state(introspection: Mapping[str, object]) -> dict[str, Any]:
    """
    What an introspection states of a connection, by the names of `StoredConnection`'s fields.

    What it leaves out, or has in an undocumented form, is left out.
    """
    reported = introspection.get("connection_status")
    fields = reported if isinstance(reported, Mapping) else {}
    state = {
        "status": read_status(fields.get("status")),
        "synced_at": _instant(fields.get("last_successful_sync")),
        "entities": _entities(introspection),
    }
    return {
        "status_message": _sentence(fields.get("message")) or None,
        **{name: value for name, value in state.items() if value},
    }


def _entities(introspection: Mapping[str, object]) -> tuple[Entity, ...]:
    listed = introspection.get("entities")
    if not isinstance(listed, list):
        # Some of Finch's pages show the ids alone.
        return tuple(Entity(id=each) for each in _entity_ids(introspection.get("entity_ids")))
    known = {
        each["id"]: Entity(
            id=each["id"],
            name=storable(each.get("name")),
            source_id=storable(each.get("source_id")),
            status=read_status(each.get("status")),
        )
        for each in listed
        if isinstance(each, dict) and storable(each.get("id"))
    }
    return tuple(known.values())


def read_status(value: object) -> str | None:
    """Finch's word; an unknown one is kept."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        return None
    return _SYNONYMS.get(value, value)


def _instant(value: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return instant and instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)


def _products(value: object) -> tuple[str, ...] | None:
    """The products, empty if absent; None if malformed."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _PRODUCTS_LIMIT:
        return None
    return tuple(value) if all(map(_text, value)) else None


def strict_json(text: str) -> object:
    """
    The only meaning of *text*.

    Raises:
        ValueError: It is not JSON, is nested too deeply, repeats a name within an object, or
            holds NaN or a number beyond a float's range.
    """
    # Before parsing, which would use up the stack. Few brackets cannot be nested too deeply.
    if text.count("[") + text.count("{") > _DEPTH_LIMIT and _depth(text) > _DEPTH_LIMIT:
        raise ValueError("nested too deeply")
    document: object = _DECODER.decode(text)
    return document


def _depth(text: str) -> int:
    steps = [1 if bracket in "[{" else -1 for bracket in _BRACKETS.findall(_STRINGS.sub("", text))]
    return max(itertools.accumulate(steps), default=0)


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


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_float=_finite, parse_constant=_finite
)
