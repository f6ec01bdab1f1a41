"""Every statement of `SQLAlchemyStorage`, built once, so that SQLAlchemy compiles it once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Delete,
    Table,
    and_,
    bindparam,
    delete,
    false,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)

from finch_middleware.attempts import AttemptState
from finch_middleware.records import ANNOUNCED_CUSTOMER, NO_CUSTOMER
from finch_middleware.storage.sql.dialects import Dialect
from finch_middleware.storage.sql.kept import Kept
from finch_middleware.storage.sql.schema import Tables

#: How some old rows of a table are found, and how those are removed that are still old.
Removal = tuple[Kept, Delete]


class Statements:
    """
    The statements over one storage's tables.

    Parameters of a WHERE clause are named ``of_…``: in an UPDATE, the plain names are columns.
    """

    def __init__(self, tables: Tables, *, dialect: Dialect) -> None:
        self._attempts(tables, dialect=dialect)
        self._connections(tables, dialect=dialect)
        self._sweeps(tables)
        self._events(tables, dialect=dialect)

    def _connections(self, tables: Tables, *, dialect: Dialect) -> None:
        connections = tables.connections
        of_hash = connections.c.connection_hash == bindparam("of_hash")
        of_id = select(connections).where(of_hash)
        self.insert_connection = Kept(dialect.insertion(connections))
        self.put_connection = Kept(dialect.locking_insertion(connections))
        self.connection = Kept(of_id)
        self.connection_locked = Kept(of_id.with_for_update())
        columns = _all_but(connections, "connection_hash")
        self.update_connection = Kept(update(connections).where(of_hash).values(columns))
        self.of_customer = Kept(
            select(connections)
            .where(connections.c.customer_hash == bindparam("of_customer"))
            .order_by(connections.c.obtained_at.desc())
        )
        behind = and_(
            connections.c.connection_hash > bindparam("of_hash"),
            connections.c.connection_hash <= bindparam("of_last"),
            connections.c.customer_hash != NO_CUSTOMER,
            connections.c.customer_hash != ANNOUNCED_CUSTOMER,
        )
        names = (connections.c.connection_hash, connections.c.connection_id)
        self.scan, self.scan_names = (
            Kept(
                query.where(behind)
                .order_by(connections.c.connection_hash)
                .limit(bindparam("of_limit"))
            )
            for query in (select(connections), select(*names))
        )
        self.ended = Kept(
            select(connections)
            .where(
                connections.c.customer_hash == NO_CUSTOMER,
                connections.c.obtained_at < bindparam("of_instant"),
                connections.c.history != "",
            )
            .limit(bindparam("of_limit"))
        )

    def _attempts(self, tables: Tables, *, dialect: Dialect) -> None:
        attempts = tables.attempts
        self.quarantined = Kept(
            select(attempts).where(attempts.c.state == AttemptState.QUARANTINED.value)
        )
        of_code = attempts.c.code_hash == bindparam("of_code")
        of_hash = select(attempts).where(of_code)
        self.claim = Kept(dialect.insertion(attempts))
        self.insert_attempt = Kept(insert(attempts))
        self.attempt = Kept(of_hash)
        self.attempt_locked = Kept(of_hash.with_for_update())
        self.attempt_of_flow = Kept(
            select(attempts).where(attempts.c.flow_hash == bindparam("of_flow"))
        )
        columns = _all_but(attempts, "code_hash")
        self.update_attempt = Kept(update(attempts).where(of_code).values(columns))
        claimed = and_(
            of_code,
            attempts.c.attempt_id == bindparam("of_attempt"),
            # As a truth value, or PostgreSQL reads every claimed attempt by the index of
            # states: where it has counted none, it expects fewer of them than of the code.
            (attempts.c.state == AttemptState.CLAIMED.value).is_(true()),
        )
        self.release = Kept(delete(attempts).where(claimed))
        same_flow = attempts.c.flow_hash.is_not_distinct_from(bindparam("of_flow"))
        columns = _all_but(attempts, "code_hash", "attempt_id", "flow_hash")
        self.end_claim = Kept(update(attempts).where(claimed, same_flow).values(columns))

    def _sweeps(self, tables: Tables) -> None:
        attempts = tables.attempts
        # As literals, because SQLAlchemy writes a list of parameters anew at each execution.
        ended = attempts.c.state.in_([literal_column(f"'{state}'") for state in _ENDED])
        pending = or_(
            attempts.c.state == AttemptState.CLAIMED.value,
            and_(ended, attempts.c.notified == false()),
        )
        self.unsettled = Kept(
            select(attempts).where(pending, attempts.c.leased_until < bindparam("of_instant"))
        )
        forgettable: ColumnElement[bool] = and_(
            ended,
            attempts.c.notified == true(),
            attempts.c.settled_at < bindparam("of_instant"),
        )
        self.old_attempts = _removal(attempts.c.code_hash, forgettable)

    def _events(self, tables: Tables, *, dialect: Dialect) -> None:
        events, connections = tables.events, tables.connections
        of_event = events.c.event_hash == bindparam("of_event")
        self.insert_event = Kept(dialect.insertion(events))
        self.event = Kept(select(events).where(of_event))
        self.mark_event = Kept(update(events).where(of_event).values(delivered=true()))
        self.old_events = _removal(
            events.c.event_hash, events.c.received_at < bindparam("of_instant")
        )
        self.old_announcements = _removal(
            connections.c.connection_hash,
            and_(
                connections.c.customer_hash == ANNOUNCED_CUSTOMER,
                connections.c.obtained_at < bindparam("of_instant"),
            ),
        )


def _all_but(table: Table, *found: str) -> dict[str, BindParameter[Any]]:
    """
    The columns that an UPDATE writes.

    Those by which it *found* the row have their value: SQLite would write their indexes anew.
    """
    return {c.name: bindparam(c.name) for c in table.columns if c.name not in found}


def _removal(key: Column[bytes], old: ColumnElement[bool]) -> Removal:
    found = select(key).where(old).limit(bindparam("of_limit"))
    # As a truth value: SQLite would find these keys among all old rows, each time anew.
    still_old = old.is_(true())
    keys = key.in_(bindparam("of_keys", expanding=True))
    return Kept(found), delete(key.table).where(still_old, keys)


# The values, not the members: a driver may not know how to bind an enumeration.
_ENDED = [
    state.value for state in (AttemptState.STORED, AttemptState.FAILED, AttemptState.AMBIGUOUS)
]
