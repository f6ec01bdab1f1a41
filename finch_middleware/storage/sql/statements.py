"""Every statement of `SQLAlchemyStorage`, built once, so that SQLAlchemy compiles it once."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Executable,
    and_,
    bindparam,
    delete,
    false,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from finch_middleware.attempts import AttemptState
from finch_middleware.records import ANNOUNCED_CUSTOMER, NO_CUSTOMER
from finch_middleware.storage.sql.dialects import Dialect
from finch_middleware.storage.sql.schema import Tables

#: How some old rows of a table are found, and how those are removed that are still old.
Removal = tuple[Executable, Delete]


class Statements:
    """
    The statements over one storage's tables.

    Parameters of a WHERE clause are named ``of_…``: in an UPDATE, the plain names are columns.
    """

    def __init__(self, tables: Tables, *, dialect: Dialect) -> None:
        attempts, connections = tables.attempts, tables.connections
        self._attempts(tables, dialect=dialect)
        self._sweeps(tables)
        self._events(tables, dialect=dialect)

        of_hash = connections.c.connection_hash == bindparam("of_hash")
        self.insert_connection = _counted(dialect.insertion(connections))
        self.connection = select(connections).where(of_hash)
        self.connection_locked = self.connection.with_for_update()
        self.update_connection = update(connections).where(of_hash)
        self.of_customer = (
            select(connections)
            .where(connections.c.customer_hash == bindparam("of_customer"))
            .order_by(connections.c.obtained_at.desc())
        )
        behind = and_(
            connections.c.connection_hash > bindparam("of_hash"),
            connections.c.customer_hash.not_in([NO_CUSTOMER, ANNOUNCED_CUSTOMER]),
        )
        names = (connections.c.connection_hash, connections.c.connection_id)
        self.scan, self.scan_names = (
            query.where(behind).order_by(connections.c.connection_hash).limit(bindparam("of_limit"))
            for query in (select(connections), select(*names))
        )
        self.quarantined = select(attempts).where(
            attempts.c.state == AttemptState.QUARANTINED.value
        )

    def _attempts(self, tables: Tables, *, dialect: Dialect) -> None:
        attempts = tables.attempts
        of_code = attempts.c.code_hash == bindparam("of_code")
        self.claim = _counted(dialect.insertion(attempts))
        self.insert_attempt = insert(attempts)
        self.attempt = select(attempts).where(of_code)
        self.attempt_locked = self.attempt.with_for_update()
        self.attempt_of_flow = select(attempts).where(attempts.c.flow_hash == bindparam("of_flow"))
        self.update_attempt = update(attempts).where(of_code)
        self.release = delete(attempts).where(
            of_code,
            attempts.c.attempt_id == bindparam("of_attempt"),
            attempts.c.state == AttemptState.CLAIMED.value,
        )

    def _sweeps(self, tables: Tables) -> None:
        attempts = tables.attempts
        pending = or_(
            attempts.c.state == AttemptState.CLAIMED.value,
            and_(attempts.c.state.in_(_ENDED), attempts.c.notified == false()),
        )
        self.unsettled = select(attempts).where(
            pending, attempts.c.leased_until < bindparam("of_instant")
        )
        forgettable: ColumnElement[bool] = and_(
            attempts.c.state.in_(_ENDED),
            attempts.c.notified == true(),
            attempts.c.settled_at < bindparam("of_instant"),
        )
        self.old_attempts = _removal(attempts.c.code_hash, forgettable)

    def _events(self, tables: Tables, *, dialect: Dialect) -> None:
        events, connections = tables.events, tables.connections
        of_event = events.c.event_hash == bindparam("of_event")
        self.insert_event = _counted(dialect.insertion(events))
        self.event = select(events).where(of_event)
        self.mark_event = update(events).where(of_event).values(delivered=true())
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


def _counted(insertion: Insert) -> Insert:
    """The insertion; by default SQLAlchemy does not keep the number of inserted rows."""
    return insertion.execution_options(preserve_rowcount=True)


def _removal(key: Column[bytes], old: ColumnElement[bool]) -> Removal:
    found = select(key).where(old).limit(bindparam("of_limit"))
    return found, delete(key.table).where(old, key.in_(bindparam("of_keys", expanding=True)))


# The values, not the members: a driver may not know how to bind an enumeration.
_ENDED = [
    state.value for state in (AttemptState.STORED, AttemptState.FAILED, AttemptState.AMBIGUOUS)
]
