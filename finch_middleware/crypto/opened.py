"""A connection as the application sees it: its token is opened when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import NoReturn

from finch_middleware.records import Entity, StoredConnection
from finch_middleware.secret import Secret


@dataclass(frozen=True, slots=True, eq=False)
class AccessToken:
    """An access token that is opened when, and only when, `reveal()` is called."""

    _opened: Callable[[], Secret] = field(repr=False)

    def reveal(self) -> str:
        """
        The token itself, for the client that calls Finch. It never expires.

        Raises:
            CannotOpen: The row was altered or moved, or its key is not accepted.
            KeyUnavailable: The provider does not unwrap its key now.
        """
        return str(json.loads(self._opened().reveal())["access_token"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """
    An employer's payroll or HR system, connected: what the application works with.

    Attributes:
        connection_id: Finch's stable key of it.
        customer_id: The application's own id of the employer.
        status: What Finch last reported, such as ``connected``, ``pending`` or ``reauth``; None
            if it was never asked. The response with the token has none.
        status_message: Finch's explanation of the status, in English; None without one.
        synced_at: When Finch last read the employer's data.
        checked_at: When Finch was last asked about the current token.
        entities: The employers of record under this connection, disconnected ones included.
        connected_at: When its first token was received; signing in again does not change it.
        obtained_at: When the current token was received.
        attempt_id: The attempt that obtained the token; each reconnection has another.
    """

    connection_id: str
    customer_id: str
    provider_id: str
    products: tuple[str, ...]
    client_type: str
    connection_type: str
    status: str | None
    status_message: str | None
    synced_at: datetime | None
    checked_at: datetime | None
    entities: tuple[Entity, ...]
    connected_at: datetime
    obtained_at: datetime
    attempt_id: str
    access_token: AccessToken = field(compare=False)

    @classmethod
    def of(cls, stored: StoredConnection, opened: Callable[[], Secret]) -> Connection:
        """The connection of a stored row; *opened* opens its sealed answer, when asked."""
        return cls(
            **{name: getattr(stored, name) for name in _OF_ROW},
            access_token=AccessToken(opened),
        )

    @property
    def entity_ids(self) -> tuple[str, ...]:
        """
        The entities that can be asked for data: every data call names exactly one.

        Without the disconnected ones; nothing is decrypted.
        """
        return tuple(each.id for each in self.entities if each.status != "disconnected")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Connection cannot be pickled: pass its connection_id and customer_id")

    def details(self) -> dict[str, object]:
        """
        The rest of Finch's grant: customer_name, company_id, and fields that Finch adds later.

        Opened when called; never holds the token. Raises as `AccessToken.reveal`.
        """
        answer: dict[str, object] = json.loads(self.access_token._opened().reveal())
        answer.pop("access_token", None)
        return answer


#: What a connection has of its row, under the same names.
_OF_ROW = tuple(each.name for each in fields(Connection) if each.name != "access_token")
