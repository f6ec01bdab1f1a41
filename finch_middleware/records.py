"""Connections and their sealed tokens, as stored."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from finch_middleware.errors import StorageUnavailable
from finch_middleware.secret import Secret

#: One record as a storage holds it: column name to plain value.
Row = dict[str, str | bytes | bool | datetime | None]

#: What reading a record that is none of ours may raise.
UNREADABLE = (
    LookupError,
    OSError,  # of an instant beyond the system's range
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,  # an instant before the year 1, once it is in UTC
    RecursionError,  # JSON of a thousand brackets
)


def connection_hash(connection_id: str) -> bytes:
    """The 32 bytes under which a storage keeps a connection, whatever its collation."""
    return hashlib.sha256(b"connection\x00" + connection_id.encode()).digest()


def customer_hash(customer_id: str) -> bytes:
    """The 32 bytes under which a storage finds a customer's connections."""
    return hashlib.sha256(b"customer\x00" + customer_id.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedToken:
    """
    Finch's grant, token included, as ciphertext. Only the vault makes and opens it.

    Attributes:
        text: ASCII, ``fm1.<key id>.<base64url of nonce and ciphertext>``.
    """

    text: str

    @property
    def key_id(self) -> str:
        """The id of the key that sealed it."""
        return self.text.split(".")[1] if self.text.count(".") == 2 else ""


#: What a tombstone has in place of a token, and in place of the hash of a customer.
ENDED = SealedToken(text="ended")
NO_CUSTOMER = bytes(32)
#: The same of a connection that is known by Finch's events only.
ANNOUNCED = SealedToken(text="announced")
ANNOUNCED_CUSTOMER = bytes(31) + b"\x01"
# Where a clock was set back, a waiting token is some microseconds later than the stored one.
_AFTER_THE_END = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    The response of Finch's token endpoint, checked for its form only.

    Attributes:
        document: The whole response as JSON text: the token, and fields unknown to this version.
        connection_id: Finch's stable id of the connection. None if the response has none or if
            another field is malformed; such a grant stays in quarantine until an introspection
            completes it.
        customer_id: The id that our server set when it created the session, as text; None if the
            response has none. If it is malformed, connection_id is None as well.
        entity_ids: The employers of record that it covers; empty if the response names none.
    """

    document: Secret
    connection_id: str | None
    customer_id: str | None
    provider_id: str
    products: tuple[str, ...]
    client_type: str
    connection_type: str
    entity_ids: tuple[str, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """
    One employer of record under a connection; every data call names exactly one.

    Attributes:
        id: What a data call sends as ``entity_ids``.
        name, source_id: The provider's own, once Finch has been asked.
        status: What Finch last reported of this entity; None if unknown.
        heard_at: The second of the last event that counted; None without one.
    """

    id: str
    name: str | None = None
    source_id: str | None = None
    status: str | None = None
    heard_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConnection:
    """
    A connection as a storage holds it: names to list by, and ciphertext.

    Two kinds of rows have neither token nor customer. A connection that has ended leaves a
    tombstone, which stays for good, so that a token from before the end is not stored again. A
    connection that is not stored yet is announced by an event; the row keeps its word, for a day.

    Attributes:
        status: What Finch last reported (``connected``, ``pending``, ``reauth``…); None if unknown.
        status_message: Finch's explanation of the status.
        synced_at: When Finch last read the employer's data.
        checked_at: When Finch was last asked about this token; None if never.
        heard_at: The second of the last event that counted for the status; None without one.
        undecided_at: When an event arrived about which Finch has to be asked; None without one.
        obtained_at: When the token was received. A newer one replaces an older one, never back.
            Of an announced connection, when its last event was received.
        attempt_id: The attempt that obtained it.
        history: What happened to it, one `history_line` after the other.
    """

    connection_id: str
    customer_id: str
    client_id: str
    provider_id: str
    products: tuple[str, ...]
    client_type: str
    connection_type: str
    status: str | None = None
    status_message: str | None = None
    synced_at: datetime | None = None
    checked_at: datetime | None = None
    heard_at: datetime | None = None
    undecided_at: datetime | None = None
    entities: tuple[Entity, ...] = ()
    sealed: SealedToken
    obtained_at: datetime
    attempt_id: str
    history: str = ""

    @property
    def connected_at(self) -> datetime:
        """When its first token was received; a re-authentication does not change it."""
        with suppress(ValueError):
            return datetime.fromisoformat(self.history.partition(" ")[0])
        return self.obtained_at

    @property
    def has_ended(self) -> bool:
        """Whether it is a tombstone."""
        return self.sealed == ENDED

    @property
    def is_announced(self) -> bool:
        """Whether only events have named it yet."""
        return self.sealed == ANNOUNCED

    @property
    def has_token(self) -> bool:
        """Whether it is neither a tombstone nor only announced."""
        return not self.has_ended and not self.is_announced

    def tombstone(self, *, at: datetime) -> StoredConnection:
        """What is stored in its place once it has ended, at *at*."""
        return dataclasses.replace(
            self,
            customer_id="",
            status="disconnected",
            status_message=None,
            entities=(),
            sealed=ENDED,
            obtained_at=max(at, self.obtained_at) + _AFTER_THE_END,
        )

    def as_row(self) -> Row:
        """The record as plain columns, its two keys among them; instants are in UTC."""
        row: dict[str, Any] = dict(zip(_COLUMNS, _values(self), strict=True))
        row |= {name: at.astimezone(UTC) for name in _INSTANTS if (at := row[name])}
        row["connection_hash"] = connection_hash(self.connection_id)
        row["customer_hash"] = self._customer_hash()
        row["products"] = json.dumps(self.products)
        row["entities"] = json.dumps([_as_list(each) for each in self.entities])
        row["sealed"] = self.sealed.text
        return row

    def _customer_hash(self) -> bytes:
        if self.has_token:
            return customer_hash(self.customer_id)
        return NO_CUSTOMER if self.has_ended else ANNOUNCED_CUSTOMER

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> StoredConnection:
        """
        The record that `as_row` wrote. An instant without a time zone is in UTC.

        Raises:
            StorageUnavailable: ``unreadable``: a later version wrote it, or it was altered.
        """
        with suppress(*UNREADABLE):
            values = {name: row[name] for name in _COLUMNS}
            # Raises unless each is a text that can be encoded.
            "".join(values[name] for name in (*_TEXTS, "history")).encode()
            values["products"] = tuple(json.loads(row["products"]))
            values["sealed"] = SealedToken(text=row["sealed"])
            values["entities"] = tuple(_entity(*each) for each in json.loads(row["entities"]))
            for name in _INSTANTS:
                instant = row[name]
                if name == "obtained_at" or instant is not None:
                    values[name] = instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)
            return cls(**values)
        # Not inside an except block: the error beneath quotes the row.
        raise StorageUnavailable("unreadable")


def _as_list(entity: Entity) -> list[str | int | None]:
    heard = int(entity.heard_at.timestamp()) if entity.heard_at is not None else None
    return [entity.id, entity.name, entity.source_id, entity.status, heard]


def _entity(
    key: str, name: str | None, source_id: str | None, status: str | None, heard: int | None
) -> Entity:
    heard_at = datetime.fromtimestamp(heard, UTC) if heard is not None else None
    return Entity(id=key, name=name, source_id=source_id, status=status, heard_at=heard_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """
    The ciphertext of a stored connection, with the names to which it is bound.

    Attributes:
        place: Where the storage's scan found it; None elsewhere, and where that saves nothing.
    """

    connection_id: str
    customer_id: str
    client_id: str
    sealed: SealedToken
    place: object = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, stored: StoredConnection) -> StoredToken:
        """The part of a connection that a rotation of keys needs."""
        return cls(
            connection_id=stored.connection_id,
            customer_id=stored.customer_id,
            client_id=stored.client_id,
            sealed=stored.sealed,
        )


#: Read once, because `fields` searches the class at each call.
_COLUMNS = tuple(each.name for each in dataclasses.fields(StoredConnection))
_values = attrgetter(*_COLUMNS)

_INSTANTS = ("obtained_at", "synced_at", "checked_at", "heard_at", "undecided_at")
#: The columns of a connection that are never empty of text.
_TEXTS = (
    *("connection_id", "customer_id", "client_id", "provider_id", "client_type"),
    *("connection_type", "sealed", "attempt_id"),
)


def history_line(at: datetime, event: str, **facts: object) -> str:
    """One entry of a connection's history; facts that are empty are left out."""
    shown = {"event": event, **{name: value for name, value in facts.items() if value}}
    instant = at.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{instant} {json.dumps(shown, separators=(',', ':'))}\n"


def row_to_json(row: Row) -> str:
    """A row as one line of JSON, for storages and files without column types."""
    plain: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            plain[name] = {"at": value.isoformat()}
        elif isinstance(value, bytes):
            plain[name] = {"bytes": base64.b64encode(value).decode()}
        else:
            plain[name] = value
    return json.dumps(plain, ensure_ascii=True, separators=(",", ":"))


def row_from_json(text: str) -> Row:
    """The row that `row_to_json` wrote. Raises one of `UNREADABLE` on anything else."""
    row: Row = {}
    for name, value in json.loads(text).items():
        match value:
            case {"at": str(instant)}:
                row[name] = datetime.fromisoformat(instant)
            case {"bytes": str(encoded)}:
                row[name] = base64.b64decode(encoded, validate=True)
            case str() | bool() | None:
                row[name] = value
            case _:
                raise ValueError("not a row")
    return row
