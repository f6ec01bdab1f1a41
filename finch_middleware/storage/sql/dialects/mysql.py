"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import (
    Connection,
    LargeBinary,
    Table,
    Text,
    bindparam,
    cast,
    insert,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault
from finch_middleware.storage.sql.kept import Bound, Kept, run


class MySQL(Dialect):
    """A MySQL or MariaDB server, with InnoDB tables."""

    facts: ClassVar = {
        "MySQL": "SELECT version()",
        "innodb_flush_log_at_trx_commit": "SELECT @@innodb_flush_log_at_trx_commit",
        "sync_binlog": "SELECT @@sync_binlog",
    }

    _DUPLICATE = 1062
    _FAULTS: ClassVar = {
        _DUPLICATE: Fault("conflict", passing=True),
        1021: Fault("full"),
        1026: Fault("io_error"),
        1030: Fault("io_error"),
        1036: Fault("read_only"),
        1040: Fault("busy"),
        1044: Fault("denied"),
        1045: Fault("denied"),
        1054: Fault("schema_mismatch"),
        1114: Fault("full"),
        1142: Fault("denied"),
        1143: Fault("denied"),
        1146: Fault("schema_mismatch"),
        1203: Fault("busy"),
        1205: Fault("busy"),
        1213: Fault("conflict", passing=True),
        1226: Fault("busy"),
        1290: dialects.FORMER_PRIMARY,
        1698: Fault("denied"),
        1792: dialects.FORMER_PRIMARY,
        1836: dialects.FORMER_PRIMARY,
        1969: Fault("busy"),
        3024: Fault("busy"),
    }
    # 3 is an older way of MariaDB to sync at each commit.
    _SYNCED = (1, 3)

    def engine_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self._driver == "pymysql":
            patience = math.ceil(dialects.PATIENCE_SECONDS)
            # The server's own limits come first, and leave the connection usable.
            options["connect_args"] = {
                "connect_timeout": patience,
                "read_timeout": patience + 1,
                "write_timeout": patience + 1,
                # Whatever the URL names: other character sets cannot store every text.
                "charset": "utf8mb4",
            }
        return options

    def opened(self, driver_connection: Any) -> None:
        with driver_connection.cursor() as cursor:
            cursor.execute(_pin())

    @contextmanager
    def borrowing(self, connection: Connection) -> Iterator[None]:
        # One round trip before and two with it: the application must find its session unchanged.
        before = connection.exec_driver_sql(_IN_FORCE).one()
        connection.exec_driver_sql(_pin())
        yield
        _restore(connection, list(before))

    def begin(self, connection: Connection, first: Sequence[Bound] = ()) -> list[int]:
        run(connection, "START TRANSACTION")
        return [self.count(connection, each) for each in first]

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        patience = math.ceil(dialects.PATIENCE_SECONDS)
        lock = connection.exec_driver_sql(f"SELECT GET_LOCK('finch_middleware', {patience})")
        if lock.scalar_one() != 1:
            raise StorageUnavailable("busy")
        yield
        # The lock belongs to the session and would outlive the transaction.
        connection.exec_driver_sql("SELECT RELEASE_LOCK('finch_middleware')")

    def volatile(self, connection: Connection, *, tables: Iterable[Table]) -> str | None:
        flush, binary_log, sync = connection.exec_driver_sql(
            "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog"
        ).one()
        if flush not in self._SYNCED:
            return "set innodb_flush_log_at_trx_commit = 1"
        if binary_log and sync != 1:
            # A start after a loss of power rolls back what the binary log does not have.
            return "set sync_binlog = 1"
        return None

    def insertion(self, table: Table) -> Insert:
        # INSERT IGNORE would also ignore what is wrong with the row.
        return insert(table)

    counts_insertions = False

    def locking_insertion(self, table: Table) -> Insert:
        # An insertion that fails takes a shared lock, and two that then change the row deadlock.
        key = next(iter(table.primary_key))
        return mysql.insert(table).on_duplicate_key_update({key.name: key})

    def count(self, connection: Connection, statement: Bound) -> int:
        try:
            return super().count(connection, statement)
        except IntegrityError as error:
            if _number(error.orig) != self._DUPLICATE:
                raise
        return 0

    def replacement(self, table: Table) -> Kept:
        # As bytes: its collations pad the shorter text with spaces.
        current, old = (
            cast(each, LargeBinary) for each in (table.c.sealed, bindparam("of_sealed", type_=Text))
        )
        return Kept(
            update(table)
            .values(sealed=bindparam("new_sealed"))
            .where(table.c.connection_hash == bindparam("of_hash"), current == old)
        )

    def driver_fault(self, error: BaseException | None) -> Fault:
        return self._FAULTS.get(_number(error), dialects.UNKNOWN)


#: What changes how a statement is read, or a text is stored, and the value that we need; an
#: expression may use the current value. utf8mb3 is raised, because it has no emoji; with another
#: character set, the driver sends other bytes, and the check refuses it.
_NEEDED: dict[str, object] = {
    # Without strict mode, MySQL cuts what is too long. SQLAlchemy quotes as ANSI_QUOTES asks.
    # PyMySQL does not know NO_BACKSLASH_ESCAPES, and ORACLE hides a table's engine.
    "sql_mode": "CONCAT('STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
    " IF(FIND_IN_SET('ANSI_QUOTES', @@sql_mode), ',ANSI_QUOTES', ''))",
    "character_set_client": "IF(@@character_set_client IN ('utf8', 'utf8mb3'),"
    " 'utf8mb4', @@character_set_client)",
    "character_set_results": "IF(@@character_set_results IN ('utf8', 'utf8mb3'),"
    " 'utf8mb4', @@character_set_results)",
    "collation_connection": "IF(@@character_set_connection IN ('utf8', 'utf8mb3'),"
    " 'utf8mb4_bin', @@collation_connection)",
    "sql_select_limit": 2**64 - 1,
    "unique_checks": 1,
}

# MariaDB alone reads comments that begin with "M!", MySQL alone those with "!50708".
_IN_FORCE = (
    f"SELECT {', '.join(f'@@{name}' for name in _NEEDED)},"
    " @@innodb_lock_wait_timeout, @@lock_wait_timeout"
    "/*M! , @@max_statement_time */ /*!50708 , @@max_execution_time / 1000 */"
)


def _pin() -> str:
    """The statement that sets what we need; a row's lock, a table's and a statement may wait."""
    patience = math.ceil(dialects.PATIENCE_SECONDS)
    return _setting([*_NEEDED.values(), patience, patience, patience])


def _setting(values: Sequence[object]) -> str:
    """The statement that sets these values; MySQL applies the last one to reads only."""
    *ours, locks, tables, statement = values
    needed = ", ".join(f"{name} = {value}" for name, value in zip(_NEEDED, ours, strict=True))
    return (
        f"SET SESSION {needed},"
        f" innodb_lock_wait_timeout = {locks}, lock_wait_timeout = {tables}"
        f"/*M! , max_statement_time = {statement} */"
        f"/*!50708 , max_execution_time = {round(float(str(statement)) * 1000)} */"
    )


def _restore(connection: Connection, values: Sequence[object]) -> None:
    try:
        connection.exec_driver_sql(_setting([_literal(value) for value in values]))
    except Exception:  # whatever the driver raises
        # The result is known by now; the session is closed instead of given back.
        connection.invalidate()


def _literal(value: object) -> object:
    """A setting's value in SQL: the server's own names have no quotes."""
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else value


def _number(error: BaseException | None) -> int:
    """The server's number for the error, or 0 where it is the driver's own."""
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0
