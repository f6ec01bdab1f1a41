"""The two tables of `SQLAlchemyStorage`, their columns named as the records name them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeDecorator, TypeEngine

from finch_middleware.errors import SchemaMismatch

_MYSQL = ("mysql", "mariadb")


class Instant(TypeDecorator[datetime]):
    """An aware datetime with its microseconds; UTC in databases that keep no time zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        if dialect.name in _MYSQL:
            # Without it MySQL rounds to whole seconds.
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# A text as key would be compared by the database's collation, which ignores case here and
# trailing spaces there: whatever decides is a hash of fixed length.
_KEY = LargeBinary(32).with_variant(mysql.BINARY(32), *_MYSQL)
_BYTES = LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
# MySQL's TEXT ends at 65 535 bytes, and cuts silently where strict mode is off.
_TEXT = Text().with_variant(mysql.LONGTEXT(), *_MYSQL)
_STATE = String(16)
_IN_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in _MYSQL
    for option, value in {
        # MyISAM has no transactions; utf8mb3 no emoji; the default collation no case.
        "engine": "InnoDB",
        "charset": "utf8mb4",
        "collate": "utf8mb4_bin",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one storage, for migrations and statements alike."""

    metadata: MetaData
    attempts: Table
    connections: Table


def tables(*, schema: str | None, prefix: str) -> Tables:
    """The tables ``<prefix>attempts`` and ``<prefix>connections``."""
    metadata = MetaData(schema=schema)
    return Tables(
        metadata=metadata,
        attempts=_attempts(metadata, prefix=prefix),
        connections=_connections(metadata, prefix=prefix),
    )


def _attempts(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}attempts",
        metadata,
        Column("code_key", _KEY, primary_key=True),
        Column("flow_key", _KEY, nullable=True),
        Column("attempt_id", _TEXT, nullable=False),
        Column("bound_to", _BYTES, nullable=False),
        Column("client_id", _TEXT, nullable=False),
        Column("customer_ids", _TEXT, nullable=False),
        Column("state", _STATE, nullable=False),
        Column("reference", _TEXT, nullable=False),
        Column("claimed_at", Instant, nullable=False),
        Column("leased_until", Instant, nullable=False),
        Column("settled_at", Instant, nullable=True),
        Column("customer_id", _TEXT, nullable=True),
        Column("connection_id", _TEXT, nullable=True),
        Column("return_to", _TEXT, nullable=True),
        Column("reason", _TEXT, nullable=True),
        Column("request_id", _TEXT, nullable=True),
        Column("sealed", _TEXT, nullable=True),
        Column("notified", Boolean, nullable=False),
        Index(f"{prefix}attempts_of_flow", "flow_key", unique=True),
        # Serves both what is owed (few of a state) and what can be forgotten (a range).
        Index(f"{prefix}attempts_owing", "state", "notified", "settled_at"),
        **_IN_MYSQL,
    )


def _connections(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}connections",
        metadata,
        Column("connection_key", _KEY, primary_key=True),
        Column("customer_key", _KEY, nullable=False),
        Column("connection_id", _TEXT, nullable=False),
        Column("customer_id", _TEXT, nullable=False),
        Column("client_id", _TEXT, nullable=False),
        Column("provider_id", _TEXT, nullable=False),
        Column("products", _TEXT, nullable=False),
        Column("client_type", _TEXT, nullable=False),
        Column("connection_type", _TEXT, nullable=False),
        Column("status", _TEXT, nullable=True),
        Column("sealed", _TEXT, nullable=False),
        Column("obtained_at", Instant, nullable=False),
        Column("attempt_id", _TEXT, nullable=False),
        Index(f"{prefix}connections_of_customer", "customer_key", "obtained_at"),
        **_IN_MYSQL,
    )


def missing_columns(connection: Connection, *, tables: Tables) -> list[Column[Any]]:
    """The columns of *tables* that the database does not have; all of a table that it lacks."""
    inspector = inspect(connection)
    missing: list[Column[Any]] = []
    for table in tables.metadata.sorted_tables:
        present: set[str] = set()
        if inspector.has_table(table.name, schema=table.schema):
            found = inspector.get_columns(table.name, schema=table.schema)
            present = {column["name"] for column in found}
        missing += [column for column in table.columns if column.name not in present]
    return missing


def make_tables(connection: Connection, *, tables: Tables) -> None:
    """
    Make the tables that are missing, and add the columns that an older version did not know.

    Raises:
        SchemaMismatch: A column is missing that existing rows would need a value for.
    """
    tables.metadata.create_all(connection)
    for column in missing_columns(connection, tables=tables):
        if not column.nullable:
            raise SchemaMismatch(
                f"the table {column.table.name} has no column {column.name}: it is not one "
                f"of ours, choose another table_prefix"
            )
        table = connection.dialect.identifier_preparer.format_table(column.table)
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {definition}")


def require_tables(connection: Connection, *, tables: Tables) -> None:
    """
    Return when every column is there.

    Raises:
        SchemaMismatch: One is not; the message names it and the mend.
    """
    for column in missing_columns(connection, tables=tables):
        raise SchemaMismatch(
            f"the database has no column {column.table.name}.{column.name}: "
            f"run `finch-middleware create-tables` once, with this version"
        )
