"""
Finch's webhooks: whether Finch signed a delivery, and what it reports.

Source: Finch, Developer Resources, Webhooks. What they leave open: docs/appendix/unknowns.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from finch_middleware.errors import ReturnFault
from finch_middleware.finch.responses import read_status, storable, strict_json
from finch_middleware.secret import Secret
from finch_middleware.storage.events import FinchEvent

#: How far ``Finch-Timestamp`` may be from our clock, either way. Source: Finch's SDKs.
TOLERANCE_SECONDS = 300

# A dot would let one signed text have two meanings. Finch's ids are ``msg_`` and a KSUID.
_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
# An entry begins where the header does, or behind a space; and behind a comma, by which a server
# joins several lines. No entry is consumed, so that a malformed one hides no other.
_VERSION_1 = re.compile(r"(?<![^ ,])v1,(?=([^ ,]+))")


class NotVerified(ReturnFault):
    """
    A delivery that Finch provably did not sign, or not now.

    Attributes:
        reason: ``headers``, ``timestamp`` or ``signature``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent(FinchEvent):
    """
    An event that Finch has signed: what `on_webhook` gets.

    Attributes:
        event_id: Finch-Event-Id, the same in each repeat.
        event_type: Such as ``account.updated``, ``test`` or ``payment.created``; Finch may add
            types. Empty where the event has none.
        connection_id: None where the event names none, as ``test`` may.
        entity_id: The entity that the event is about; None if it is about the connection.
        company_id, account_id: Finch's older ids; None where the event has none.
        status: What ``account.updated`` reports; None in other events.
        received_at: By our clock.
        data: The member ``data``, read only; empty where there is none.
        body: The whole event as JSON text, for a queue.
    """

    event_type: str
    company_id: str | None
    account_id: str | None
    data: Mapping[str, Any] = field(repr=False, compare=False)
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The three headers of a delivery, as received; *entries* is Finch-Signature."""

    event_id: str
    timestamp: str
    entries: str

    def check(self, *, now: datetime) -> None:
        """
        Return if these could be the headers of a delivery of *now*.

        Raises:
            NotVerified: ``headers``: one is missing or malformed. ``timestamp``: too old or new.
        """
        known_form = _EVENT_ID.fullmatch(self.event_id) and _TIMESTAMP.fullmatch(self.timestamp)
        if not known_form or not self._signatures():
            raise NotVerified("headers")
        if abs(now.timestamp() - int(self.timestamp)) > TOLERANCE_SECONDS:
            raise NotVerified("timestamp")

    def verify(self, body: bytes, *, secrets: Sequence[Secret]) -> None:
        """
        Return if one of *secrets*, in standard base64, signed *body*.

        Any ``v1`` entry may match; other versions are ignored.

        Raises:
            NotVerified: ``signature``.
        """
        text = f"{self.event_id}.{self.timestamp}.".encode() + body
        expected = [_sign(secret, text) for secret in secrets]
        # All are compared, each in constant time.
        matches = [
            hmac.compare_digest(ours, theirs) for ours in expected for theirs in self._signatures()
        ]
        if not any(matches):
            raise NotVerified("signature")

    def _signatures(self) -> list[bytes]:
        """The text behind each ``v1``; a malformed entry hides no other."""
        return [each.encode("latin-1", "replace") for each in _VERSION_1.findall(self.entries)]


def _sign(secret: Secret, text: bytes) -> bytes:
    digest = hmac.digest(base64.b64decode(secret.reveal()), text, hashlib.sha256)
    return base64.b64encode(digest)


def read_event(event_id: str, body: bytes, *, received_at: datetime) -> WebhookEvent | None:
    """The event in a verified *body*; None if that is no JSON object."""
    try:
        text = body.decode()
        document = strict_json(text)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    data = document.get("data")
    fields = data if isinstance(data, dict) else {}
    event_type = storable(document.get("event_type")) or ""
    ids = ("connection_id", "entity_id", "company_id", "account_id")
    return WebhookEvent(
        event_id=event_id,
        event_type=event_type,
        **{name: storable(document.get(name)) for name in ids},
        status=read_status(fields.get("status")) if event_type == "account.updated" else None,
        received_at=received_at,
        data=_read_only(fields),
        body=text,
    )


def _read_only(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({name: _read_only(each) for name, each in value.items()})
    if isinstance(value, list):
        return tuple(_read_only(each) for each in value)
    return value
