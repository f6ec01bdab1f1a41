"""Every statement of `SQLAlchemyStorage`, built once, so that SQLAlchemy compiles it once."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
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

from finch_middleware.attempts import AttemptState
from finch_middleware.records import NO_CUSTOMER
from finch_middleware.storage.sql.dialects import Dialect
from finch_middleware.storage.sql.schema import Tables


class Statements:
    """
    The statements over one storage's tables.

    Parameters of a WHERE clause are named ``of_…``: in an UPDATE, the plain names are columns.
    """

    def __init__(self, tables: Tables, *, dialect: Dialect) -> None:
        attempts, connections = tables.attempts, tables.connections
        self._attempts(tables, dialect=dialect)
        self._sweeps(tables)

        of_hash = connections.c.connection_hash == bindparam("of_hash")
        self.keep_newest = dialect.newest(connections)
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
            connections.c.customer_hash != NO_CUSTOMER,
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
        # Without preserve_rowcount, SQLAlchemy does not keep the number of inserted rows.
        self.claim = dialect.insertion(attempts).execution_options(preserve_rowcount=True)
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
        self.forgettable = (
            select(attempts.c.code_hash).where(forgettable).limit(bindparam("of_limit"))
        )
        self.forget = delete(attempts).where(
            forgettable, attempts.c.code_hash.in_(bindparam("of_codes", expanding=True))
        )


# The values, not the members: a driver may not know how to bind an enumeration.
_ENDED = [
    state.value for state in (AttemptState.STORED, AttemptState.FAILED, AttemptState.AMBIGUOUS)
]
