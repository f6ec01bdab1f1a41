"""One row of each table written, changed, read back and removed: what a callback will need."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn

from sqlalchemy import Connection, Table, delete

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import (
    ANNOUNCED,
    SealedToken,
    StoredConnection,
    connection_hash,
)
from finch_middleware.storage.events import StoredEvent, event_hash
from finch_middleware.storage.sql.schema import Tables
from finch_middleware.storage.sql.statements import Statements

#: Text that a character set, a quoting rule or a short column would change.
_TEXT = "Zoë 漢字 😀 '\"`\\ %s :x ; -- \n"
#: Every byte that a quoting rule could change; the rest of a hash is random.
_BYTES = b"\x00'\"\\%\x1a\n\r\x80\xff"
#: Longer than any token of Finch's, sealed.
_SEALED = SealedToken(text="fm1.probe." + "A" * 8192)
_INSTANT = datetime(2026, 7, 1, 12, 30, 59, 999999, tzinfo=UTC)

Record = Attempt | StoredConnection | StoredEvent


def probe(db: Connection, *, sql: Statements, tables: Tables) -> None:
    """
    Write and remove in this transaction, so that no other session sees a row of it.

    Raises:
        SchemaMismatch: A table does not give back, or does not remove, what was written.
    """
    # No other process has its hash.
    key = _BYTES + os.urandom(32 - len(_BYTES))
    settled: Attempt = _sample(Attempt, key=key)
    connection: StoredConnection = _sample(StoredConnection, key=key)
    event: StoredEvent = _sample(StoredEvent, key=key)
    attempt = dataclasses.replace(
        settled, state=AttemptState.CLAIMED, settled_at=None, sealed=None, notified=False
    )
    announced = dataclasses.replace(connection, customer_id="", sealed=ANNOUNCED)
    undelivered = dataclasses.replace(event, delivered=False)
    of_code = {"of_code": attempt.code_hash}
    of_claim = {**of_code, "of_attempt": attempt.attempt_id, "of_flow": attempt.flow_hash}
    of_hash = {"of_hash": connection_hash(connection.connection_id)}
    of_event = {"of_event": event_hash(event.event_id)}

    sql.claim.count(db, attempt.as_row())
    _require_same(tables.attempts, attempt, sql.attempt.rows(db, of_code))
    sql.end_claim.count(db, {**settled.as_row(), **of_claim})
    _require_same(tables.attempts, settled, sql.attempt.rows(db, of_code))
    sql.insert_connection.count(db, announced.as_row())
    sql.put_connection.count(db, connection.as_row())
    _require_same(tables.connections, announced, sql.connection_locked.rows(db, of_hash))
    sql.update_connection.count(db, {**connection.as_row(), **of_hash})
    _require_same(tables.connections, connection, sql.connection.rows(db, of_hash))
    sql.insert_event.count(db, undelivered.as_row())
    sql.mark_event.count(db, of_event)
    _require_same(tables.events, event, sql.event.rows(db, of_event))

    for table, hashed in (
        (tables.attempts, attempt.code_hash),
        (tables.connections, of_hash["of_hash"]),
        (tables.events, of_event["of_event"]),
    ):
        [column] = table.primary_key.columns
        if db.execute(delete(table).where(column == hashed)).rowcount != 1:
            _refuse(table, "does not remove a row: check row level security and triggers")


def _sample(kind: Any, *, key: bytes) -> Any:
    """A record of that kind, in which each type of a field has one value."""
    text = _TEXT + key.hex()
    values: dict[str, object] = {
        "AttemptState": AttemptState.STORED,
        "SealedToken": _SEALED,
        "bool": True,
        "bytes": key,
        "datetime": _INSTANT,
        "str": text,
        "tuple[Entity, ...]": (),
        "tuple[bytes, ...]": (key, key),
        "tuple[str, ...]": (text, text),
    }
    fields = dataclasses.fields(kind)
    return kind(**{each.name: values[str(each.type).removesuffix(" | None")] for each in fields})


def _require_same(table: Table, written: Record, found: list[dict[str, Any]]) -> None:
    if not found:
        _refuse(table, "does not give back a row that was just written: check row level security")
    changed = ["its columns"]
    with suppress(StorageUnavailable):
        read = type(written).from_row(found[0]).as_row()
        changed = [name for name, value in written.as_row().items() if read[name] != value]
    if changed:
        _refuse(
            table,
            f"changes what is written to {', '.join(changed)}: use UTF-8 (in MySQL utf8mb4) for "
            "the table and the connection, and the column types of SQLAlchemyStorage.metadata",
        )


def _refuse(table: Table, fault: str) -> NoReturn:
    raise SchemaMismatch(f"the table {table.name} {fault}")
