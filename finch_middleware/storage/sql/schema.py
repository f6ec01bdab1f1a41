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
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeDecorator, TypeEngine

from finch_middleware.errors import SchemaMismatch

_MYSQL = ("mysql", "mariadb")

#: Columns that an index or a constraint is over, and whether no two rows may have them equal.
_Key = tuple[tuple[str, ...], bool]


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
        Column("code_hash", _KEY, primary_key=True),
        Column("flow_hash", _KEY, nullable=True),
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
        Index(f"{prefix}attempts_of_flow", "flow_hash", unique=True),
        # Serves both what is owed (few of a state) and what can be forgotten (a range).
        Index(f"{prefix}attempts_owing", "state", "notified", "settled_at"),
        **_IN_MYSQL,
    )


def _connections(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}connections",
        metadata,
        Column("connection_hash", _KEY, primary_key=True),
        Column("customer_hash", _KEY, nullable=False),
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
        Index(f"{prefix}connections_of_customer", "customer_hash", "obtained_at"),
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


def missing_indexes(connection: Connection, *, tables: Tables) -> list[Index]:
    """The indexes of *tables* whose columns the database has under none, called whatever."""
    return [
        index
        for table in tables.metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda each: str(each.name))
        if not _served(index, keys=_keys_of(connection, table))
    ]


def make_tables(connection: Connection, *, tables: Tables) -> None:
    """
    Make what is missing: tables, and columns and indexes that an older version did not know.

    Raises:
        SchemaMismatch: A column is missing that existing rows would need a value for, or rows
            are in the way of an index.
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
    for index in missing_indexes(connection, tables=tables):
        _make_index(connection, index)


def require_tables(connection: Connection, *, tables: Tables) -> None:
    """
    Return when every column is there, and whatever makes a claim the only one.

    An index that only makes a search fast is not asked for.

    Raises:
        SchemaMismatch: Something is not; the message names it and the mend.
    """
    for column in missing_columns(connection, tables=tables):
        raise SchemaMismatch(
            f"the database has no column {column.table.name}.{column.name}: {_mend(tables)}"
        )
    for table in tables.metadata.sorted_tables:
        _require_primary_key(connection, table)
        _require_transactions(connection, table)
    for index in missing_indexes(connection, tables=tables):
        if index.unique:
            raise SchemaMismatch(f"the database has no unique index {index.name}: {_mend(tables)}")


def _mend(tables: Tables) -> str:
    schema, prefix = tables.attempts.schema, tables.attempts.name.removesuffix("attempts")
    options = f" --schema {schema}" if schema is not None else ""
    options += f" --table-prefix {prefix}" if prefix != "finch_" else ""
    return f"run `finch-middleware create-tables{options}` once, with this version"


def _make_index(connection: Connection, index: Index) -> None:
    try:
        return index.create(connection)
    except (IntegrityError, OperationalError, ProgrammingError):
        pass
    # Not inside the except block: the error beneath may quote a row.
    raise SchemaMismatch(
        f"the index {index.name} cannot be made: another has its name, or rows of "
        f"{index.table} hold one value twice; rename that one, or delete the older rows"
    )


def _require_primary_key(connection: Connection, table: Table) -> None:
    wanted = (tuple(column.name for column in table.primary_key), True)
    if wanted not in _keys_of(connection, table):
        raise SchemaMismatch(
            f"the table {table.name} has lost its primary key ({', '.join(wanted[0])}): "
            f"make it again, or choose another table_prefix"
        )


def _require_transactions(connection: Connection, table: Table) -> None:
    name = connection.dialect.name
    if name not in _MYSQL:
        return
    options = inspect(connection).get_table_options(table.name, schema=table.schema)
    if str(options.get(f"{name}_engine")).lower() != "innodb":
        raise SchemaMismatch(
            f"the table {table.name} knows no transactions: "
            f"run ALTER TABLE {table.name} ENGINE=InnoDB"
        )


def _keys_of(connection: Connection, table: Table) -> set[_Key]:
    """What the database can search in *table*, and keeps unique."""
    inspector, where = inspect(connection), {"schema": table.schema}
    constraint = inspector.get_pk_constraint(table.name, **where)
    found: set[_Key] = {(tuple(constraint["constrained_columns"]), True)}
    for unique in inspector.get_unique_constraints(table.name, **where):
        found.add((tuple(unique["column_names"]), True))
    for index in inspector.get_indexes(table.name, **where):
        # One with a condition is an index of some rows only.
        if not any(option.endswith("_where") for option in index.get("dialect_options", {})):
            names = tuple(name or "" for name in index["column_names"])
            found.add((names, bool(index["unique"])))
    return found


def _served(index: Index, *, keys: set[_Key]) -> bool:
    names = tuple(column.name for column in index.columns)
    return (names, True) in keys or (not index.unique and (names, False) in keys)
