"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import Connection, LargeBinary, Table, Text, bindparam, cast, insert, update
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault, fault_of
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
        Fault("conflict", passing=True): (_DUPLICATE, 1213),
        Fault("full"): (1021, 1114),
        Fault("io_error"): (1026, 1030),
        Fault("read_only"): (1036,),
        dialects.FORMER_PRIMARY: (1290, 1792, 1836),
        Fault("busy"): (1040, 1203, 1205, 1226, 1969, 3024),
        Fault("denied"): (1044, 1045, 1142, 1143, 1698),
        Fault("schema_mismatch"): (1054, 1146),
    }
    # 3 is an older way of MariaDB to sync at each commit.
    _SYNCED = (1, 3)

    def engine_options(self) -> dict[str, Any]:
        if self._driver != "pymysql":
            return {}
        patience = math.ceil(dialects.PATIENCE_SECONDS)
        # The server's own limits come first, and leave the connection usable.
        limits = {
            "connect_timeout": patience,
            "read_timeout": patience + 1,
            "write_timeout": patience + 1,
            # Whatever the URL names: other character sets cannot store every text.
            "charset": "utf8mb4",
        }
        return {"connect_args": limits}

    def opened(self, driver_connection: Any) -> None:
        with driver_connection.cursor() as cursor:
            cursor.execute(_set("SESSION {0} = {1}"))

    @contextmanager
    def borrowing(self, connection: Connection) -> Iterator[None]:
        # The application must find its session unchanged.
        connection.exec_driver_sql(_set("@finch_{0} = @@{0}, SESSION {0} = {1}"))
        yield
        try:
            connection.exec_driver_sql(_set("SESSION {0} = @finch_{0}"))
        except Exception:  # whatever the driver raises
            # The result is known by now; the session is closed instead of given back.
            connection.invalidate()

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
        return fault_of(_number(error), self._FAULTS)


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


def _set(form: str) -> str:
    """The statement that does *form* for each setting, with its name and the value we need."""
    patience = math.ceil(dialects.PATIENCE_SECONDS)
    needed = {
        **_NEEDED,
        "innodb_lock_wait_timeout": patience,
        "lock_wait_timeout": patience,
        "max_statement_time": patience,
        "max_execution_time": patience * 1000,
    }
    *common, of_mariadb, of_mysql = (form.format(*setting) for setting in needed.items())
    # MariaDB alone reads comments that begin with "M!", MySQL alone those with "!50708". MySQL
    # limits reads only.
    return f"SET {', '.join(common)} /*M! , {of_mariadb} */ /*!50708 , {of_mysql} */"


def _number(error: BaseException | None) -> int:
    """The server's number for the error, or 0 where it is the driver's own."""
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0
