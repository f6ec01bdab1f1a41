"""The records of requests, sessions and codes. No repr shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    """

    endpoint: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime

    def header(self, name: str) -> str | None:
        """The first header of that name, ignoring case."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


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
    customer_name: str | None = None
    connection_id: str
    provider_id: str
    products: tuple[str, ...]
    redirect_uri: str | None = None
    sandbox: bool = False
    issued_at: datetime
    session_id: str | None = None
    reauthenticates: bool = False
    presented: int = 0
    minted: tuple[str, ...] = field(default=(), repr=False)

    @property
    def expires_at(self) -> datetime:
        return self.issued_at + CODE_LIFE


def shown(record: SeenRequest | OpenedSession | IssuedCode) -> dict[str, object]:
    """The fields that its repr shows, by name."""
    return {each.name: getattr(record, each.name) for each in fields(record) if each.repr}
