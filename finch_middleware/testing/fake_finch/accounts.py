"""The accounts at a provider that Finch is connected to: their entities and their state."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import datetime
from threading import RLock

#: Finch's words for the state of a connection; `disconnected` also of an entity.
STATUSES = (
    "pending",
    "processing",
    "connected",
    "reauth",
    "error_no_account_setup",
    "error_permissions",
    "disconnected",
)
_NAMES = ("Main", "West", "North", "East", "South")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """
    One employer of record under a connection.

    Attributes:
        id: What a data call names in ``entity_ids``, a UUID.
        source_id: The provider's own id.
        status: One of `STATUSES`.
    """

    id: str
    name: str
    source_id: str
    status: str = "connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    The state of a connection, whether or not its code was exchanged yet.

    Attributes:
        status: One of `STATUSES`.
        message: Finch's explanation of the status.
        last_successful_sync: By the fake's clock.
    """

    connection_id: str
    entities: tuple[Entity, ...]
    status: str = "connected"
    message: str | None = None
    last_successful_sync: datetime | None = None

    @property
    def account_id(self) -> str:
        return derived_id(self.connection_id, "account")

    @property
    def company_id(self) -> str:
        return derived_id(self.connection_id, "company")

    @property
    def entity_ids(self) -> tuple[str, ...]:
        """The ids of the entities that are not disconnected."""
        return tuple(each.id for each in self.entities if each.status != "disconnected")

    def entity(self, entity_id: str) -> Entity:
        """The entity of that id, or a KeyError."""
        for each in self.entities:
            if each.id == entity_id:
                return each
        raise KeyError(entity_id)


class Accounts:
    """Every account that an employer has consented to connect. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._accounts: dict[str, Account] = {}

    def get(self, connection_id: str) -> Account:
        """
        The account; a new one has a single entity.

        A code of the fake's own (`FakeFinch.issue_code`) has an account from here on.
        """
        with self._lock:
            return self._accounts.get(connection_id) or self.consent(connection_id, entities=None)

    def consent(self, connection_id: str, *, entities: int | None) -> Account:
        """
        An employer has signed in: the account has at least *entities* entities.

        Signing in again adds entities and restores disconnected ones; it removes none.
        """
        with self._lock:
            known = self._accounts.get(connection_id)
            kept = known.entities if known else ()
            count = max(len(kept), entities or 1)
            new = [_entity(connection_id, n) for n in range(len(kept), count)]
            entities_now = (dataclasses.replace(e, status="connected") for e in (*kept, *new))
            account = Account(connection_id=connection_id, entities=tuple(entities_now))
            self._accounts[connection_id] = account
            return account

    def set_status(
        self,
        connection_id: str,
        status: str,
        *,
        entity_id: str | None = None,
        message: str | None = None,
    ) -> Account:
        """Change the state of a connection, or of one of its entities."""
        with self._lock:
            account = self.get(connection_id)
            if entity_id is None:
                account = dataclasses.replace(account, status=status, message=message)
            else:
                changed = dataclasses.replace(account.entity(entity_id), status=status)
                entities = (changed if e.id == entity_id else e for e in account.entities)
                account = dataclasses.replace(account, entities=tuple(entities))
            self._accounts[connection_id] = account
            return account

    def synced(self, connection_id: str, *, at: datetime) -> None:
        with self._lock:
            account = dataclasses.replace(self.get(connection_id), last_successful_sync=at)
            self._accounts[connection_id] = account


def derived_id(owner: str, purpose: str) -> str:
    """The UUID that *owner*, a UUID, has for *purpose*: the same each time."""
    return str(uuid.uuid5(uuid.UUID(owner), purpose))


def _entity(connection_id: str, position: int) -> Entity:
    # The first keeps the id that a connection with a single entity has.
    name = _NAMES[position % len(_NAMES)]
    return Entity(
        id=derived_id(connection_id, f"entity{position or ''}"),
        name=f"{name} {position + 1}" if position >= len(_NAMES) else name,
        source_id=f"{position + 1:03}",
    )
