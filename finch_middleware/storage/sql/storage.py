"""Attempts, connections and events in three tables of an SQL database, through SQLAlchemy Core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.engine import URL

from finch_middleware.attempts import Attempt
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import (
    Row,
    SealedToken,
    StoredConnection,
    StoredToken,
    connection_hash,
    customer_hash,
)
from finch_middleware.storage.events import FinchEvent, StoredEvent, event_hash
from finch_middleware.storage.history import join
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.storage.sql.database import Database
from finch_middleware.storage.sql.kept import Bound, Kept
from finch_middleware.storage.sql.probe import probe
from finch_middleware.storage.sql.schema import (
    Tables,
    create_tables,
    require_durability,
    require_tables,
)
from finch_middleware.storage.sql.statements import Removal, Statements
from finch_middleware.storage.sql.tokens import Tokens
from finch_middleware.storage.sql.urls import parsed

T = TypeVar("T")

#: Tries of a claim whose winner releases its own before we can read it.
_TRIES = 4

#: Attempts removed in one transaction, so that no claim waits long for them.
_BATCH = 500

#: A hash that no code has: shows whether a row could be written without writing one.
_NO_CODE = bytes(32)


class SQLAlchemyStorage(Storage):
    """
    A storage in an SQL database: SQLite, PostgreSQL, MySQL or MariaDB.

    Pass a URL with an explicit driver, or the application's Engine: the storage then uses its
    pool and never touches the application's own transactions. Nothing is opened before the
    first call. SQLite's tables are created at first use; elsewhere call `create_tables` once.

    Arguments:
        accept_data_loss: Accept a server that may lose what it confirmed: tokens, which never
            expire at Finch, and claims, so that a code may be presented twice. In a URL:
            ``?accept_data_loss=true``.

    Attributes:
        metadata: The three tables, for migration tools.

    Raises:
        ConfigurationError: The URL cannot be parsed, or its database or driver is not supported.
    """

    def __init__(
        self,
        url_or_engine: str | URL | Engine,
        *,
        schema: str | None = None,
        table_prefix: str = "finch_",
        accept_data_loss: bool = False,
    ) -> None:
        self._tables = Tables(schema=schema, prefix=table_prefix)
        if not isinstance(url_or_engine, Engine):
            url_or_engine, accepted = parsed(url_or_engine)
            accept_data_loss = accept_data_loss or accepted
        self._loss_accepted = accept_data_loss
        self._database = Database(url_or_engine, preparation=self._prepare)
        self._sql = Statements(self._tables, dialect=self._database.dialect)
        self._tokens = Tokens(self._database, tables=self._tables)

    @property
    def metadata(self) -> MetaData:
        """The three tables; their columns have the names of `as_row()`."""
        return self._tables.metadata

    def create_tables(self) -> bool:
        """
        Create the tables that are missing; those that exist are not changed.

        Safe to run twice, and from two processes at once.

        Raises:
            SchemaMismatch: A table of that name exists that is not ours.
            StorageUnavailable: The database cannot be reached or refuses.
        """
        self._database.write(self._create_tables, prepared=False)
        return True

    def close(self) -> None:
        """Close the pooled connections, unless they are those of the application's Engine."""
        self._database.close()

    def check(self) -> None:
        self._database.prepare()
        self._database.change(self._sql.release, {"of_code": _NO_CODE, "of_attempt": ""})

    def describe(self) -> Sequence[str]:
        """The database and its version, the settings that matter, and our tables."""
        facts = self._database.dialect.facts
        values = self._database.write(
            lambda db: [db.exec_driver_sql(query).scalar_one() for query in facts.values()]
        )
        described = [f"{name} {value}" for name, value in zip(facts, values, strict=True)]
        return [*described, *sorted(self._tables.metadata.tables)]

    def claim(self, attempt: Attempt) -> Attempt | None:
        return self._claim_after_reading(attempt, of=())[0]

    def claim_and_read(self, attempt: Attempt) -> tuple[Attempt | None, Sequence[StoredConnection]]:
        """See `Storage.claim_and_read`; both in one session and one turn of the write queue."""
        return self._claim_after_reading(attempt, of=attempt.customer_ids)

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return _only(self._read_attempts(self._sql.attempt, of_code=code_hash))

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        first = self._first_of_end(attempt, connection)
        return self._database.finish(
            first,
            lambda db, counts: self._settle(db, attempt, connection, first=first, counts=counts),
        )

    def release(self, attempt: Attempt) -> None:
        values = {"of_code": attempt.code_hash, "of_attempt": attempt.attempt_id}
        self._database.change(self._sql.release, values)

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        rows = self._database.read(self._sql.unsettled, of_instant=leased_before.astimezone(UTC))
        return _readable(rows, read=Attempt.from_row)[0]

    def quarantined(self) -> Sequence[Attempt]:
        return self._read_attempts(self._sql.quarantined)

    def row(self, connection_id: str) -> StoredConnection | None:
        rows = self._database.read(self._sql.connection, of_hash=connection_hash(connection_id))
        return _only([StoredConnection.from_row(row) for row in rows])

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        query, values = self._customer_query(customer_id)
        return _connections(self._database.read(query, **values))

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start = shard.before if after is None else after
        rows = self._behind(start, last=shard.last, limit=limit)
        found, unread_rows = _readable(rows, read=StoredConnection.from_row)
        return Scan(
            rows=found,
            unreadable=[str(row["connection_id"]) for row in unread_rows],
            after=bytes(rows[-1]["connection_hash"]) if rows else None,
        )

    def scan_tokens(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredToken]:
        """See `Storage.scan_tokens`; reads four columns."""
        return self._tokens.scan(after=after, limit=limit, shard=shard)

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        """See `Storage.swap_tokens`; all of them in one transaction."""
        return self._tokens.swap(changes)

    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        return self._database.write(lambda db: self._swap(db, old, new=new))

    def forget(self, *, settled_before: datetime) -> int:
        """Remove one batch; see `Storage.forget`."""
        return self._forget(self._sql.old_attempts, before=settled_before)

    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        values = {"of_instant": before.astimezone(UTC), "of_limit": _BATCH}
        rows = self._database.read(self._sql.ended, **values)
        return _readable(rows, read=StoredConnection.from_row)[0]

    def event(self, event_id: str) -> StoredEvent | None:
        rows = self._database.read(self._sql.event, of_event=event_hash(event_id))
        return _only([StoredEvent.from_row(row) for row in rows])

    def record(self, event: StoredEvent) -> StoredEvent | None:
        return self._database.write(lambda db: self._record(db, event))

    def mark_delivered(self, event: FinchEvent) -> None:
        self._database.change(self._sql.mark_event, {"of_event": event_hash(event.event_id)})

    def forget_events(self, *, received_before: datetime) -> int:
        """Remove one batch; see `Storage.forget_events`."""
        return sum(
            self._forget(old, before=received_before)
            for old in (self._sql.old_events, self._sql.old_announcements)
        )

    def _claim_after_reading(
        self, attempt: Attempt, *, of: Iterable[str]
    ) -> tuple[Attempt | None, Sequence[StoredConnection]]:
        """What `claim` returns, and the connections that these customers had before."""
        reads = [self._customer_query(each) for each in of]
        claim = (self._sql.claim, attempt.as_row())
        for _ in range(_TRIES):
            found, count = self._database.read_and_change(reads, claim, convert=_connections)
            holder = None if count == 1 else self._holder(attempt)
            if count == 1 or holder is not None:
                return holder, [each for existing in found for each in existing]
        raise StorageUnavailable("busy")

    def _customer_query(self, customer_id: str) -> Bound:
        return self._sql.of_customer, {"of_customer": customer_hash(customer_id)}

    def _holder(self, attempt: Attempt) -> Attempt | None:
        """The attempt that has the code, or else the place, of this one."""
        holder = self.attempt(attempt.code_hash)
        if holder is None and attempt.flow_hash is not None:
            found = self._read_attempts(self._sql.attempt_of_flow, of_flow=attempt.flow_hash)
            holder = _only(found)
        return holder

    def _first_of_end(self, attempt: Attempt, connection: StoredConnection | None) -> list[Bound]:
        """The statements that suffice for the end of a claim, with a connection that is new."""
        end = {
            **attempt.as_row(),
            "of_code": attempt.code_hash,
            "of_attempt": attempt.attempt_id,
            "of_flow": attempt.flow_hash,
        }
        put = [(self._sql.put_connection, connection.as_row())] if connection is not None else []
        return [*put, (self._sql.end_claim, end)]

    def _settle(
        self,
        db: Connection,
        attempt: Attempt,
        connection: StoredConnection | None,
        *,
        first: Sequence[Bound],
        counts: Sequence[int],
    ) -> tuple[bool, list[Bound]]:
        """Whether the attempt is written, and the changes that end the transaction."""
        changes = self._join(db, connection, first[0], inserted=counts[0]) if connection else []
        if counts[-1] == 1:
            return True, changes
        current = self._current(db, self._sql.attempt_locked, of_code=attempt.code_hash)
        # A flow_hash is unique: the row that has it already is the only one.
        if current is None or current.flow_hash != attempt.flow_hash:
            attempt = self._without_flow_of_another(db, attempt, current=current)
        if current is None:
            return True, [*changes, (self._sql.insert_attempt, attempt.as_row())]
        if not attempt.replaces(current):
            return current == attempt, changes
        values = {**attempt.as_row(), "of_code": attempt.code_hash}
        return True, [*changes, (self._sql.update_attempt, values)]

    def _join(
        self, db: Connection, connection: StoredConnection, put: Bound, *, inserted: int
    ) -> list[Bound]:
        """What the transaction has to change where the connection was not new."""
        insertion, row = put
        of_hash = {"of_hash": row["connection_hash"]}
        for _ in range(_TRIES):
            if inserted == 1 and self._database.dialect.counts_insertions:
                return []
            found = self._sql.connection_locked.rows(db, of_hash)
            # None where an announced one was forgotten between the two.
            if found:
                joined = join(connection, StoredConnection.from_row(found[0]))
                if joined is None:
                    return []
                return [(self._sql.update_connection, {**joined.as_row(), **of_hash})]
            inserted = insertion.count(db, row)
        raise StorageUnavailable("busy")

    def _without_flow_of_another(
        self, db: Connection, attempt: Attempt, *, current: Attempt | None
    ) -> Attempt:
        """The attempt, with the current one's flow_hash where another attempt holds its own."""
        if attempt.flow_hash is None:
            return attempt
        holder = self._current(db, self._sql.attempt_of_flow, of_flow=attempt.flow_hash)
        if holder is None:
            return attempt
        return dataclasses.replace(attempt, flow_hash=current.flow_hash if current else None)

    def _swap(self, db: Connection, old: StoredConnection | None, *, new: StoredConnection) -> bool:
        if old is None:
            return self._insert(db, self._sql.insert_connection, new.as_row())
        of_hash = {"of_hash": connection_hash(old.connection_id)}
        rows = self._sql.connection_locked.rows(db, of_hash)
        # Compared here, byte by byte: for a database's collation more texts are equal.
        if not rows or StoredConnection.from_row(rows[0]) != old:
            return False
        self._sql.update_connection.count(db, {**new.as_row(), **of_hash})
        return True

    def _record(self, db: Connection, event: StoredEvent) -> StoredEvent | None:
        for _ in range(_TRIES):
            if self._insert(db, self._sql.insert_event, event.as_row()):
                return None
            found = self._sql.event.rows(db, {"of_event": event_hash(event.event_id)})
            if found:
                return StoredEvent.from_row(found[0])
        raise StorageUnavailable("busy")

    def _insert(self, db: Connection, insertion: Kept, row: Row) -> bool:
        """Whether the row was inserted: no other one has its keys."""
        return self._database.dialect.count(db, (insertion, row)) == 1

    def _forget(self, old: Removal, *, before: datetime) -> int:
        """Remove one batch of rows from before that instant."""
        found, removal = old
        values: dict[str, Any] = {"of_instant": before.astimezone(UTC)}
        keys = [
            key
            for row in self._database.read(found, of_limit=_BATCH, **values)
            for key in row.values()
        ]
        if not keys:
            return 0
        values["of_keys"] = keys
        return self._database.write(lambda db: db.execute(removal, values).rowcount)

    def _prepare(self, db: Connection) -> None:
        """Once per process, before anything else."""
        dialect = self._database.dialect
        if dialect.makes_tables:
            self._create_tables(db)
        else:
            dialect.require_unicode(db)
            require_tables(db, tables=self._tables)
        if not self._loss_accepted:
            require_durability(db, tables=self._tables, dialect=dialect)
        probe(db, sql=self._sql, tables=self._tables)

    def _create_tables(self, db: Connection) -> None:
        create_tables(db, tables=self._tables, dialect=self._database.dialect)

    def _current(self, db: Connection, statement: Kept, **values: bytes) -> Attempt | None:
        rows = statement.rows(db, values)
        return Attempt.from_row(rows[0]) if rows else None

    def _read_attempts(self, statement: Kept, **values: Any) -> list[Attempt]:
        return [Attempt.from_row(row) for row in self._database.read(statement, **values)]

    def _behind(self, start: bytes, *, last: bytes, limit: int) -> list[dict[str, Any]]:
        """The next rows of the scan; of a row that the driver cannot read, only the names."""
        place = {"of_hash": start, "of_last": last, "of_limit": limit}
        rows = self._rows_or_none(self._sql.scan, **place)
        if rows is not None:
            return rows
        return [
            _only(self._rows_or_none(self._sql.connection, of_hash=row["connection_hash"])) or row
            for row in self._database.read(self._sql.scan_names, **place)
        ]

    def _rows_or_none(self, statement: Kept, **values: Any) -> list[dict[str, Any]] | None:
        """The rows; None where the driver cannot read one of them."""
        try:
            return self._database.read(statement, **values)
        except StorageUnavailable as fault:
            if fault.reason != "unreadable":
                raise
        return None


def _only(records: list[T] | None) -> T | None:
    return records[0] if records else None


def _connections(rows: list[dict[str, Any]]) -> list[StoredConnection]:
    """The connections of these rows that can be read."""
    return _readable(rows, read=StoredConnection.from_row)[0]


def _readable(
    rows: list[dict[str, Any]], *, read: Callable[[Mapping[str, Any]], T]
) -> tuple[list[T], list[dict[str, Any]]]:
    """The records that could be read, and the rows that could not."""
    records: list[T] = []
    unread_rows: list[dict[str, Any]] = []
    for row in rows:
        try:
            records.append(read(row))
        except StorageUnavailable:
            unread_rows.append(row)
    return records, unread_rows
