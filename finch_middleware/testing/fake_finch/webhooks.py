"""Finch's webhooks: events, signed and delivered over HTTP."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from finch_middleware.testing.fake_finch.accounts import Account

#: A URL, or a function of a body and its headers that returns the HTTP status.
Receiver = str | Callable[[bytes, Mapping[str, str]], int]

_TIMEOUT_SECONDS = 30
#: The second from which a KSUID, the form of an event's id, counts.
_KSUID_EPOCH = 1_400_000_000
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    An event that was sent.

    Attributes:
        event_id: ``Finch-Event-Id``, the same in each repeat.
        event_type: Such as ``account.updated``.
        body: The JSON, as sent.
        headers: The headers of the last attempt.
        statuses: The receiver's HTTP status of each attempt; 0 where it could not be reached.
    """

    event_id: str
    event_type: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    statuses: tuple[int, ...]


class WebhookSender:
    """Signs events with every secret, as Finch does while a secret is being replaced."""

    def __init__(
        self, *, clock: Callable[[], datetime], record: Callable[[Delivery], None]
    ) -> None:
        """*record* is called with each delivery."""
        self._clock = clock
        self._record = record
        self._post: Callable[[bytes, Mapping[str, str]], int] | None = None
        self._keys: list[bytes] = []
        self._background: ThreadPoolExecutor | None = None

    def deliver_to(self, receiver: Receiver | None, *, secrets: Sequence[str]) -> None:
        """As `FakeFinch.deliver_webhooks`."""
        if receiver is not None and not secrets:
            raise ValueError("webhook_secrets: a webhook_url needs at least one")
        self._keys = [_key(secret) for secret in secrets]
        self._post = functools.partial(_post, receiver) if isinstance(receiver, str) else receiver

    def send(
        self, event: Mapping[str, Any], *, repeat: int = 1, seconds_from_now: float = 0
    ) -> Delivery:
        """Deliver an event *repeat* times, and return once the receiver has responded."""
        if self._post is None:
            raise RuntimeError("set FakeFinch(webhook_url=…), or call deliver_webhooks")
        now = self._clock().timestamp()
        event_id = new_event_id(int(now + seconds_from_now))
        body = json.dumps(event).encode()
        headers = self.signed(event_id, int(now), body)
        statuses = tuple(self._post(body, headers) for _ in range(repeat))
        delivery = Delivery(
            event_id=event_id,
            event_type=event["event_type"],
            body=body,
            headers=headers,
            statuses=statuses,
        )
        self._record(delivery)
        return delivery

    def send_later(self, event: Mapping[str, Any]) -> None:
        """Deliver an event in the background, one after the other; nothing without a receiver."""
        if not self.active:
            return
        if self._background is None:
            self._background = ThreadPoolExecutor(1, thread_name_prefix="fake-finch-webhooks")
        self._background.submit(self.send, event)

    @property
    def active(self) -> bool:
        return self._post is not None

    def stop(self) -> None:
        """Finish the delivery under way, and drop those that wait."""
        if self._background is not None:
            self._background.shutdown(cancel_futures=True)
            self._background = None

    def signed(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of a delivery: the id, the time and one signature for each secret."""
        text = f"{event_id}.{timestamp}.".encode() + body
        signatures = (hmac.new(key, text, hashlib.sha256).digest() for key in self._keys)
        return {
            "Content-Type": "application/json",
            "Finch-Event-Id": event_id,
            "Finch-Timestamp": str(timestamp),
            "Finch-Signature": " ".join(
                f"v1,{base64.b64encode(each).decode()}" for each in signatures
            ),
        }


def account_updated(
    account: Account, status: str, *, entity_id: str | None = None
) -> dict[str, Any]:
    """The event ``account.updated``: it carries a status and no time."""
    return event(
        account,
        "account.updated",
        entity_id=entity_id,
        data={"status": status, "authentication_method": "credential"},
    )


def event(
    account: Account, event_type: str, *, entity_id: str | None, data: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "company_id": account.company_id,
        "account_id": account.account_id,
        "connection_id": account.connection_id,
        "entity_id": entity_id,
        "event_type": event_type,
        "data": data,
    }


def new_event_id(second: int, *, payload: int | None = None) -> str:
    """A KSUID, as Finch's ids of events: the second, then 16 bytes, random or *payload*."""
    number = (second - _KSUID_EPOCH) << 128
    number |= secrets.randbits(128) if payload is None else payload
    digits = ""
    for _ in range(27):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return f"msg_{digits}"


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret, validate=True)
    except ValueError:
        raise ValueError("webhook_secrets: one is not standard base64") from None


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    given: Any = {"headers": headers, "timeout": _TIMEOUT_SECONDS, "allow_redirects": False}
    with requests.Session() as session:
        session.trust_env = False  # no proxy of this machine
        try:
            return session.post(url, body, **given).status_code
        except requests.RequestException:
            return 0
