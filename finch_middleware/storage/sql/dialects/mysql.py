"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import Connection, Table, func, insert, or_
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import Row
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault


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
        1040: Fault("busy"),
        1044: Fault("denied"),
        1045: Fault("denied"),
        1054: Fault("schema_mismatch"),
        1114: Fault("full"),
        1142: Fault("denied"),
        1146: Fault("schema_mismatch"),
        1205: Fault("busy"),
        1213: Fault("conflict", passing=True),
        1290: Fault("read_only"),
        1792: Fault("read_only"),
        1836: Fault("read_only"),
        1969: Fault("busy"),
        3024: Fault("busy"),
    }
    # 3 is an older way of MariaDB to sync at each commit.
    _SYNCED = (1, 3)

    def engine_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self._driver == "pymysql":
            patience = math.ceil(dialects.PATIENCE_SECONDS)
            # The server's own limits come first, and leave the connection usable.
            options["connect_args"] = {
                "connect_timeout": patience,
                "read_timeout": patience + 1,
                "write_timeout": patience + 1,
            }
        return options

    def opened(self, driver_connection: Any) -> None:
        with driver_connection.cursor() as cursor:
            cursor.execute(_setting(**_limits()))

    @contextmanager
    def borrowing(self, connection: Connection) -> Iterator[None]:
        # One round trip before and two with it: the application must find its session unchanged.
        before = connection.exec_driver_sql(_LIMITS_IN_FORCE).one()
        connection.exec_driver_sql(_setting(**_limits()))
        try:
            yield
        finally:
            # A transaction that failed has closed its session.
            if not connection.invalidated:
                _restore(connection, locks=before[0], tables=before[1], statement=before[2])

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("START TRANSACTION")

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        patience = math.ceil(dialects.PATIENCE_SECONDS)
        lock = connection.exec_driver_sql(f"SELECT GET_LOCK('finch_middleware', {patience})")
        if lock.scalar_one() != 1:
            raise StorageUnavailable("busy")
        yield
        # The lock belongs to the session and would outlive the transaction.
        connection.exec_driver_sql("SELECT RELEASE_LOCK('finch_middleware')")

    def require_durability(self, connection: Connection) -> None:
        flush = connection.exec_driver_sql("SELECT @@innodb_flush_log_at_trx_commit").scalar_one()
        if flush not in self._SYNCED:
            raise SchemaMismatch(
                "this MySQL may lose a committed token: set innodb_flush_log_at_trx_commit = 1"
            )

    def insertion(self, table: Table) -> Insert:
        return insert(table)

    def insert_once(self, connection: Connection, insertion: Insert, *, row: Row) -> bool:
        # INSERT IGNORE would also ignore what is wrong with the row.
        try:
            connection.execute(insertion, row)
        except IntegrityError as error:
            if _number(error.orig) != self._DUPLICATE:
                raise
            return False
        return True

    def newest(self, table: Table) -> Insert:
        """The upsert of `connection_replaces`; the columns that it compares are assigned last."""
        statement = mysql.insert(table)
        new, old = statement.inserted, table.c
        same_instant = (new.obtained_at == old.obtained_at) & (new.attempt_id != old.attempt_id)
        wins = or_(new.obtained_at > old.obtained_at, same_instant)
        compared = ("attempt_id", "obtained_at")
        others = [
            column.name
            for column in table.c
            if not column.primary_key and column.name not in compared
        ]
        return statement.on_duplicate_key_update(
            [(name, func.IF(wins, new[name], old[name])) for name in (*others, *compared)]
        )

    def driver_fault(self, error: BaseException | None) -> Fault:
        return self._FAULTS.get(_number(error), Fault("unavailable"))


# MariaDB alone reads comments that begin with "M!", MySQL alone those with "!50708".
_LIMITS_IN_FORCE = (
    "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout"
    "/*M! , @@max_statement_time */ /*!50708 , @@max_execution_time / 1000 */"
)


def _limits() -> dict[str, float]:
    """Seconds that a row's lock, a table's lock and a statement may take."""
    patience = math.ceil(dialects.PATIENCE_SECONDS)
    return {"locks": patience, "tables": patience, "statement": patience}


def _setting(*, locks: float, tables: float, statement: float) -> str:
    """The statement that sets these limits; MySQL applies the last one to reads only."""
    return (
        f"SET SESSION innodb_lock_wait_timeout = {locks}, lock_wait_timeout = {tables}"
        f"/*M! , max_statement_time = {statement} */"
        f"/*!50708 , max_execution_time = {round(statement * 1000)} */"
    )


def _restore(connection: Connection, **limits: float) -> None:
    try:
        connection.exec_driver_sql(_setting(**limits))
    except SQLAlchemyError:
        # The result is known by now; the session is closed instead of given back.
        connection.invalidate()


def _number(error: BaseException | None) -> int:
    """The server's number for the error, or 0 where it is the driver's own."""
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0
