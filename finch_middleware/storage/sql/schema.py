"""The three tables of `SQLAlchemyStorage`; their columns have the names of the records' fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Index,
    Inspector,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    inspect,
    literal_column,
    type_coerce,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from finch_middleware.errors import SchemaMismatch
from finch_middleware.storage.sql.dialects import Dialect as DatabaseDialect

_MYSQL = ("mysql", "mariadb")


class _InstantOfPostgreSQL(TypeDecorator[datetime]):
    """
    An instant that PostgreSQL shows as text in UTC, whatever the session's DateStyle and TimeZone.

    psycopg reads it when the transaction, which could set both, has ended.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        in_utc = func.timezone(literal_column("'UTC'"), column)
        form: ColumnElement[str] = literal_column("'YYYY-MM-DD\"T\"HH24:MI:SS.US'")
        return type_coerce(func.to_char(in_utc, form), self)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


# Records are in UTC, so a database that keeps no time zone keeps the same instant. Without fsp,
# MySQL rounds to whole seconds.
_INSTANT = (
    DateTime(timezone=True)
    .with_variant(mysql.DATETIME(fsp=6), *_MYSQL)
    .with_variant(_InstantOfPostgreSQL(), "postgresql")
)
# A collation may ignore case or trailing spaces in a text, so every key is a hash of fixed length.
_HASH = LargeBinary(32).with_variant(mysql.BINARY(32), *_MYSQL)
_BYTES = LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
# MySQL's TEXT holds 65,535 bytes, and cuts longer texts silently where strict mode is off.
_TEXT = Text().with_variant(mysql.LONGTEXT(), *_MYSQL)
_IN_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in _MYSQL
    for option, value in {
        # MyISAM has no transactions, utf8mb3 has no emoji, the default collation ignores case.
        "engine": "InnoDB",
        "charset": "utf8mb4",
        "collate": "utf8mb4_bin",
    }.items()
}


class Tables:
    """The tables of one storage, with its prefix, for migrations and statements alike."""

    def __init__(self, *, schema: str | None, prefix: str) -> None:
        self.metadata = MetaData(schema=schema)
        self.attempts = _attempts(self.metadata, prefix=prefix)
        self.connections = _connections(self.metadata, prefix=prefix)
        self.events = _events(self.metadata, prefix=prefix)


def _attempts(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}attempts",
        metadata,
        Column("code_hash", _HASH, primary_key=True),
        Column("flow_hash", _HASH),
        *_required(_BYTES, "bound_to"),
        *_required(_TEXT, "attempt_id", "client_id", "customer_ids", "reference"),
        *_required(String(16), "state"),
        *_required(_INSTANT, "claimed_at", "leased_until"),
        *_required(Boolean(), "notified"),
        Column("settled_at", _INSTANT),
        Column("customer_id", _TEXT),
        Column("connection_id", _TEXT),
        Column("return_to", _TEXT),
        Column("reason", _TEXT),
        Column("request_id", _TEXT),
        Column("sealed", _TEXT),
        Index(f"{prefix}attempts_of_flow", "flow_hash", unique=True),
        # For pending work (few rows of a state) and for what can be forgotten (a range).
        Index(f"{prefix}attempts_pending", "state", "notified", "settled_at"),
        **_IN_MYSQL,
    )


def _connections(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}connections",
        metadata,
        Column("connection_hash", _HASH, primary_key=True),
        *_required(_HASH, "customer_hash"),
        *_required(_TEXT, "connection_id", "customer_id", "client_id", "provider_id", "products"),
        *_required(_TEXT, "client_type", "connection_type", "entities", "sealed"),
        *_required(_TEXT, "attempt_id", "history"),
        *_required(_INSTANT, "obtained_at"),
        Column("status", _TEXT),
        Column("status_message", _TEXT),
        Column("synced_at", _INSTANT),
        Column("checked_at", _INSTANT),
        Column("heard_at", _INSTANT),
        Column("undecided_at", _INSTANT),
        Index(f"{prefix}connections_of_customer", "customer_hash", "obtained_at"),
        **_IN_MYSQL,
    )


def _events(metadata: MetaData, *, prefix: str) -> Table:
    return Table(
        f"{prefix}events",
        metadata,
        Column("event_hash", _HASH, primary_key=True),
        *_required(_TEXT, "event_id"),
        *_required(_INSTANT, "received_at"),
        *_required(Boolean(), "delivered"),
        Index(f"{prefix}events_of_time", "received_at"),
        **_IN_MYSQL,
    )


def _required(kind: TypeEngine[Any], *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=False) for name in names]


def create_tables(connection: Connection, *, tables: Tables, dialect: DatabaseDialect) -> None:
    """
    Create the tables that are missing.

    Raises:
        SchemaMismatch: A table of that name is not ours, or the database does not store every text.
    """
    dialect.require_unicode(connection)
    with dialect.alone(connection):
        tables.metadata.create_all(connection)
        require_tables(connection, tables=tables)


def require_durability(connection: Connection, *, tables: Tables, dialect: DatabaseDialect) -> None:
    """Return when a commit survives a loss of power; else a SchemaMismatch names the setting."""
    fix = dialect.volatile(connection, tables=tables.metadata.sorted_tables)
    if fix:
        raise SchemaMismatch(
            f"this database may lose a committed token: {fix}; or accept it with "
            "?accept_data_loss=true in the URL, or SQLAlchemyStorage(..., accept_data_loss=True)"
        )


def require_tables(connection: Connection, *, tables: Tables) -> None:
    """
    Return when every column exists, and every key that makes a claim the only one.

    An index that only makes a search fast is not required.

    Raises:
        SchemaMismatch: Something is missing; the message names it and the fix.
    """
    inspector = inspect(connection)
    for table in tables.metadata.sorted_tables:
        where: dict[str, Any] = {"table_name": table.name, "schema": table.schema}
        if not inspector.has_table(**where):
            raise SchemaMismatch(f"the database has no table {table.name}: {_fix(tables)}")
        found = {each["name"] for each in inspector.get_columns(**where)}
        for column in table.columns:
            if column.name not in found:
                _refuse(table, f"column {column.name}")
        key = table.primary_key.columns.keys()
        if inspector.get_pk_constraint(**where)["constrained_columns"] != key:
            _refuse(table, f"primary key ({', '.join(key)})")
        constraints: Any = inspector.get_unique_constraints(**where)
        indexes = [each for each in inspector.get_indexes(**where) if each["unique"]]
        unique = [
            each["column_names"]
            for each in (*constraints, *indexes)
            # An index with a condition covers some rows only.
            if not any("_where" in option for option in each.get("dialect_options", ()))
        ]
        for index in table.indexes:
            if index.unique and index.columns.keys() not in unique:
                _refuse(table, f"unique index over {', '.join(index.columns.keys())}")
        _require_transactions(inspector, table)


def _fix(tables: Tables) -> str:
    schema, prefix = tables.attempts.schema, tables.attempts.name.removesuffix("attempts")
    options = f" --schema {schema}" if schema is not None else ""
    options += f" --table-prefix {prefix}" if prefix != "finch_" else ""
    return f"run `finch-middleware create-tables{options}` once"


def _refuse(table: Table, missing: str) -> NoReturn:
    raise SchemaMismatch(
        f"the table {table.name} has no {missing}: add it as SQLAlchemyStorage.metadata "
        "describes it, or choose another table_prefix"
    )


def _require_transactions(inspector: Inspector, table: Table) -> None:
    name = inspector.dialect.name
    if name not in _MYSQL:
        return
    options = inspector.get_table_options(table.name, schema=table.schema)
    if str(options.get(f"{name}_engine")).lower() != "innodb":
        raise SchemaMismatch(
            f"the table {table.name} has no transactions: "
            f"run ALTER TABLE {table.name} ENGINE=InnoDB"
        )
