"""The records of requests, sessions and codes. No repr shows a secret."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

#: "10 minutes" on Finch's legacy pages, "short-lived" on today's.
CODE_LIFE = timedelta(minutes=10)

Flow = Literal["redirect", "embedded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRequest:
    """
    A request as it arrived, recorded before it is processed.

    Attributes:
        endpoint: As in `FakeFinch.script`; ``unknown`` for any other path.
        headers: Names and values in their order and spelling.
        at: By the fake's clock.
        monotonic: By `time.monotonic`.
    """

    endpoint: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime
    monotonic: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        """The first header of that name, ignoring case."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def as_json(self) -> dict[str, object]:
        return {
            "endpoint": self.endpoint,
            "method": self.method,
            "body_bytes": len(self.body),
            "at": self.at.isoformat(),
            "monotonic": self.monotonic,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """
    A Connect session: the consent that one employer is asked for.

    Attributes:
        redirect_uri: None in the embedded flow.
        connection_id: The connection to re-authenticate; None for a new one.
    """

    session_id: str
    customer_id: str
    customer_name: str | None
    products: tuple[str, ...]
    redirect_uri: str | None
    provider_id: str | None
    sandbox: bool
    connection_id: str | None
    opened_at: datetime
    expires_at: datetime
    fields: Mapping[str, object] = field(repr=False, default_factory=dict)

    @property
    def flow(self) -> Flow:
        return "embedded" if self.redirect_uri is None else "redirect"

    def as_json(self) -> dict[str, object]:
        return {
            "session_id": self.session_id,
            "customer_id": self.customer_id,
            "flow": self.flow,
            "redirect_uri": self.redirect_uri,
            "products": list(self.products),
            "connection_id": self.connection_id,
            "expires_at": self.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCode:
    """
    A code, the consent behind it, and its use.

    Attributes:
        reauthenticates: Whether the connection existed when the session was opened.
        presented: How often it was presented to the token endpoint.
        minted: The tokens issued for it: at most one.
    """

    code: str = field(repr=False)
    customer_id: str
    customer_name: str | None
    connection_id: str
    provider_id: str
    products: tuple[str, ...]
    redirect_uri: str | None
    sandbox: bool
    issued_at: datetime
    session_id: str | None = None
    reauthenticates: bool = False
    presented: int = 0
    minted: tuple[str, ...] = field(default=(), repr=False)

    @property
    def flow(self) -> Flow:
        return "embedded" if self.redirect_uri is None else "redirect"

    @property
    def expires_at(self) -> datetime:
        return self.issued_at + CODE_LIFE

    def as_json(self) -> dict[str, object]:
        return {
            "code": self.code,
            "customer_id": self.customer_id,
            "connection_id": self.connection_id,
            "provider_id": self.provider_id,
            "flow": self.flow,
            "presented": self.presented,
            "minted": hashed(self.minted),
        }


def hashed(tokens: Iterable[str]) -> list[str]:
    """SHA-256 of each, in hex: enough to recognise a token, not to use it."""
    return [hashlib.sha256(token.encode()).hexdigest() for token in tokens]
