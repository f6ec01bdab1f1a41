"""
What an event of Finch changes in a connection's row: the rule, without I/O.

Finch repeats its events, does not order them, and puts no time into them. An event's word is
applied where nothing newer is known; otherwise the row notes that only Finch can decide. Sources:
Finch, "Webhooks": duplicates and order; the KSUID in the event's id is derived.
"""

from __future__ import annotations

import dataclasses
import hashlib
import string
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import ANNOUNCED, UNREADABLE, Entity, Row, StoredConnection
from finch_middleware.storage.history import SKEW, Subject, is_after, takes_away, with_word

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KSUID_LENGTH = 27
_KSUID_EPOCH = 1_400_000_000
_PAYLOAD_BITS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FinchEvent:
    """
    A verified event, as far as the storage needs it.

    Attributes:
        connection_id: None where Finch names none.
        entity_id: The one entity that it is about; None: the connection as a whole.
        status: The word of an ``account.updated``, in our spelling; None for any other event.
        received_at: By our clock.
    """

    event_id: str
    connection_id: str | None
    entity_id: str | None = None
    status: str | None = None
    received_at: datetime

    @property
    def occurred_at(self) -> datetime | None:
        """
        The second in the event's id, a hint only; None where there is none, or one in the future.

        The body holds no time, and Finch-Timestamp may be that of the attempt.
        """
        second = _second_of(self.event_id.removeprefix("msg_"))
        if second is None or second > self.received_at + SKEW:
            return None
        return second


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """
    That an event was received, kept for a day to recognise its repetitions. Never its body.

    Attributes:
        delivered: Whether nothing of it is pending: the application's hook has returned.
    """

    event_id: str
    received_at: datetime
    delivered: bool

    def as_row(self) -> Row:
        """The record as plain columns; the instant is in UTC."""
        return {
            "event_hash": event_hash(self.event_id),
            "event_id": self.event_id,
            "received_at": self.received_at.astimezone(UTC),
            "delivered": self.delivered,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> StoredEvent:
        """
        The record that `as_row` wrote. An instant without a time zone is in UTC.

        Raises:
            StorageUnavailable: ``unreadable``: a later version wrote it, or it was altered.
        """
        with suppress(*UNREADABLE):
            at = row["received_at"]
            return cls(
                event_id=str(row["event_id"]),
                received_at=at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC),
                delivered=bool(row["delivered"]),
            )
        # Not inside an except block: the error beneath quotes the row.
        raise StorageUnavailable("unreadable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """
    What `Storage.receive` has made of an event.

    Attributes:
        first: False: it was received before.
        delivered: Whether nothing of it is pending; see `StoredEvent`.
        before, after: The connection's row before and with the event's word, without a token
            where the connection is not stored yet or has ended. None without a connection_id,
            and for an event without a status.
    """

    first: bool
    delivered: bool
    before: StoredConnection | None
    after: StoredConnection | None

    @property
    def undecided(self) -> bool:
        """Whether Finch has to be asked, by `Connections.refresh`."""
        row = self.after
        return row is not None and row.has_token and row.undecided_at is not None


def event_hash(event_id: str) -> bytes:
    """The 32 bytes under which a storage keeps an event."""
    return hashlib.sha256(b"event\x00" + event_id.encode()).digest()


def apply_event(row: StoredConnection | None, event: FinchEvent) -> StoredConnection | None:
    """
    The row with the event's word, where nothing newer is known.

    None: there is no row yet, so it is announced by a row without a token, for `history.join`. A
    connection that has ended stays as it is.
    """
    if event.connection_id is None or event.status is None:
        return row
    if row is None:
        row = _announced(event.connection_id, at=event.received_at)
    if row.has_ended:
        return row
    if event.entity_id is None:
        changed, undecided = _hear(row, event, floor=_floor(row))
    else:
        changed, undecided = _hear_of_entity(row, event, event.entity_id)
    if not row.has_token:
        changed = dataclasses.replace(changed, obtained_at=max(row.obtained_at, event.received_at))
    return dataclasses.replace(changed, undecided_at=event.received_at) if undecided else changed


def _hear(subject: Subject, event: FinchEvent, *, floor: datetime | None) -> tuple[Subject, bool]:
    """The row or entity with the event's word, or as it was; whether Finch has to decide."""
    at, heard_at = event.occurred_at, subject.heard_at
    latest = at is not None and (heard_at is None or at > heard_at)
    # A word that takes nothing away is better than none, although a token is newer.
    welcome = (
        subject.status is None
        and not takes_away(event.status)
        and (latest or (at is None and heard_at is None))
    )
    if welcome or (latest and is_after(at, floor)):
        return with_word(subject, event.status, heard_at=at), False
    return subject, subject.status != event.status


def _hear_of_entity(
    row: StoredConnection, event: FinchEvent, entity_id: str
) -> tuple[StoredConnection, bool]:
    """The same of one entity; one that the token did not name is added if it is newer."""
    floor = _floor(row)
    entities = {each.id: each for each in row.entities}
    old = entities.get(entity_id, Entity(id=entity_id))
    new, undecided = _hear(old, event, floor=floor)
    if entity_id not in entities and not is_after(new.heard_at, floor):
        return row, True
    entities[entity_id] = new
    return dataclasses.replace(row, entities=tuple(entities.values())), undecided


def _floor(row: StoredConnection) -> datetime | None:
    """When we learned the row's state ourselves: by its token, or by asking Finch."""
    if not row.has_token:
        return None
    return max(row.obtained_at, row.checked_at or row.obtained_at)


def _announced(connection_id: str, *, at: datetime) -> StoredConnection:
    return StoredConnection(
        connection_id=connection_id,
        customer_id="",
        client_id="",
        provider_id="",
        products=(),
        client_type="",
        connection_type="",
        sealed=ANNOUNCED,
        obtained_at=at,
        attempt_id="",
    )


def _second_of(ksuid: str) -> datetime | None:
    """The second in a KSUID, its first four bytes."""
    if len(ksuid) != _KSUID_LENGTH or not set(ksuid) <= set(_ALPHABET):
        return None
    number = 0
    for letter in ksuid:
        number = number * len(_ALPHABET) + _ALPHABET.index(letter)
    return datetime.fromtimestamp(_KSUID_EPOCH + (number >> _PAYLOAD_BITS), UTC)
