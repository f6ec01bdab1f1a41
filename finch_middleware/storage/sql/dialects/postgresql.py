"""PostgreSQL, through psycopg."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection, Table, Text, bindparam, column, func, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import SchemaMismatch
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault, fault_of
from finch_middleware.storage.sql.kept import COUNT, ROWS, Bound, Kept, is_ours, run

T = TypeVar("T")


class PostgreSQL(Dialect):
    """
    A PostgreSQL server.

    Each transaction sets its own limits, so that a proxy may be used; a session of ours that leads
    directly to the server keeps them, and prepares what it runs outside of a transaction, which
    takes a third of the time.
    """

    facts: ClassVar = {
        "PostgreSQL": "SHOW server_version",
        "fsync": "SHOW fsync",
        "synchronous_commit": "SHOW synchronous_commit",
    }

    _FAULTS: ClassVar = {
        Fault("conflict", passing=True): ("23505", "40001", "40P01"),
        dialects.FORMER_PRIMARY: ("25006",),
        Fault("busy"): ("53300", "55P03", "57014"),
        Fault("denied"): ("28000", "28P01", "42501"),
        Fault("schema_mismatch"): ("3F000", "42703", "42P01"),
        Fault("full"): ("53100",),
        Fault("io_error"): ("58030",),
        # A column has another type than when the statement was prepared.
        Fault("unavailable", everywhere=True): ("0A000",),
    }
    # The number of an advisory lock: the first bytes of "finch_middleware".
    _SCHEMA_LOCK = 0x66696E63685F6D69

    def engine_options(self) -> dict[str, Any]:
        if self._driver not in ("psycopg", "psycopg2"):
            return {}
        patience = math.ceil(dialects.PATIENCE_SECONDS)
        limits = {
            "connect_timeout": patience,
            # A host that is gone acknowledges neither what is sent nor the probes that are
            # sent while we wait.
            "tcp_user_timeout": patience * 1000,
            "keepalives_idle": patience,
            "keepalives_interval": 1,
            "keepalives_count": 2,
            # The one setting that every proxy lets pass at the start. Without it, SQLAlchemy
            # cannot read the version of a database in SQL_ASCII.
            "client_encoding": "UTF8",
        }
        # A proxy may give the next statement another session, without what was prepared.
        unprepared = {"prepare_threshold": None} if self._driver == "psycopg" else {}
        return {"connect_args": limits | unprepared}

    def opened(self, driver_connection: Any) -> None:
        if self._driver != "psycopg":
            return
        driver_connection.autocommit = True
        # A proxy states a number of its own when a session begins. Asked in the same statement,
        # because it may give the next one another session.
        number = driver_connection.info.backend_pid
        settings = f"{self._settings(local=False)} WHERE pg_backend_pid() = {number}"
        driver_connection.leads_to_server = bool(driver_connection.execute(settings).fetchall())

    def connect(self, arguments: Any, options: dict[str, Any]) -> Any:
        if self._driver != "psycopg":
            return None
        return _bounded_connection().connect(*arguments, **options)

    def begin(self, connection: Connection, first: Sequence[Bound] = ()) -> list[int]:
        begin = self._begin(connection)
        if self._driver != "psycopg" or not is_ours(connection):
            run(connection, begin)
            return [kept.count(connection, values) for kept, values in first]
        counts: list[int] = _run_behind(
            connection, begin, _in_text(connection, first), read=_counts
        )
        return counts[: len(first)]

    def read(self, connection: Connection, statement: Bound) -> list[dict[str, Any]]:
        kept, values = statement
        session: Any = connection.connection.dbapi_connection
        if _leads_to_server(session):
            return _prepared(session, lambda: kept.rows(connection, values))
        begin = f"BEGIN READ ONLY, ISOLATION LEVEL READ COMMITTED; {self._settings()}"
        if self._speaks_utf8(connection):
            select = f"{_in_text(connection, [statement])}COMMIT"
            found = _run_behind(connection, begin, select, read=ROWS)
            # psycopg has decoded it in the session's own encoding, not in the transaction's.
            if self._speaks_utf8(connection):
                return kept.read(connection, found)
        run(connection, begin)
        rows = kept.rows(connection, values)
        run(connection, "COMMIT")
        return rows

    def change(self, connection: Connection, statement: Bound) -> int:
        session: Any = connection.connection.dbapi_connection
        if _leads_to_server(session):
            return _prepared(session, lambda: self.count(connection, statement))
        if self._driver != "psycopg":
            [count] = self.begin(connection, [statement])
            self.commit(connection, ())
            return count
        change = f"{_in_text(connection, [statement])}COMMIT"
        return int(_run_behind(connection, self._begin(connection), change, read=COUNT))

    def commit(self, connection: Connection, changes: Iterable[Bound]) -> None:
        if self._driver != "psycopg":
            super().commit(connection, changes)
            return
        run(connection, f"{_in_text(connection, changes)}COMMIT")

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._SCHEMA_LOCK})")
        return nullcontext()

    def require_unicode(self, connection: Connection) -> None:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise SchemaMismatch(
                f"this PostgreSQL database has the encoding {encoding}, which cannot store every "
                "text: use a database that was created with ENCODING 'UTF8'"
            )

    def volatile(self, connection: Connection, *, tables: Iterable[Table]) -> str | None:
        if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
            return "set fsync = on"
        for table in tables:
            name = connection.dialect.identifier_preparer.format_table(table)
            # A crash empties an unlogged table.
            if connection.execute(_PERSISTENCE, {"of_name": name}).scalar_one() != "p":
                return f"run ALTER TABLE {name} SET LOGGED"
        return None

    def insertion(self, table: Table) -> Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def replacement(self, table: Table) -> Kept:
        # One statement: without prepared ones, each row's own would be parsed and planned again.
        names = ("of_hash", "of_sealed", "new_sealed")
        lists = (
            func.string_to_array(bindparam(name, type_=Text), bindparam("between", type_=Text))
            for name in names
        )
        # The planner expects few rows of a list in a subquery, and uses the primary key. One that
        # it can count makes it read the whole table.
        given = (
            func.unnest(*(select(each).scalar_subquery() for each in lists))
            .table_valued(*(column(name, Text) for name in names))
            .render_derived()
        )
        return Kept(
            update(table)
            .values(sealed=given.c.new_sealed)
            .where(
                table.c.connection_hash == func.decode(given.c.of_hash, "hex"),
                table.c.sealed == given.c.of_sealed,
            )
        )

    def replace_each(
        self, connection: Connection, replacement: Kept, changes: Mapping[str, Sequence[Any]]
    ) -> int:
        hashes = [each.hex() for each in changes["of_hash"]]
        texts = {**changes, "of_hash": hashes}
        del texts["of_place"]
        everything = "".join(itertools.chain(*texts.values()))
        between = next(each for each in map(chr, itertools.count(1)) if each not in everything)
        values = {name: between.join(each) for name, each in texts.items()} | {"between": between}
        return replacement.count(connection, values)

    def driver_fault(self, error: BaseException | None) -> Fault:
        # psycopg 3 and psycopg2 name the SQLSTATE differently.
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        return fault_of(state, self._FAULTS)

    def _speaks_utf8(self, connection: Connection) -> bool:
        """Whether the driver is psycopg, and the session uses UTF-8 outside of our transactions."""
        session: Any = connection.connection.dbapi_connection
        return self._driver == "psycopg" and session.info.encoding == "utf-8"

    def _begin(self, connection: Connection) -> str:
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if _leads_to_server(connection.connection.dbapi_connection):
            return begin
        return f"{begin}; {self._settings()}"

    def _settings(self, *, local: bool = True) -> str:
        """
        The statement that sets what we need; one for each took as long as the read itself.

        Locally, because the application or a proxy gives the session to others afterwards.
        """
        milliseconds = math.ceil(dialects.PATIENCE_SECONDS * 1000)
        settings = {
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "TimeZone": "UTC",
            # SQLAlchemy reads the columns' types as text.
            "quote_all_identifiers": "off",
            "default_transaction_isolation": "read committed",
        }
        if self._driver == "psycopg":
            # psycopg2 would not notice it.
            settings["client_encoding"] = "UTF8"
        values = {name: f"'{value}'" for name, value in settings.items()}
        commit = "current_setting('synchronous_commit')"
        values["synchronous_commit"] = f"CASE {commit} WHEN 'off' THEN 'on' ELSE {commit} END"
        calls = (f"set_config('{name}', {value}, {local})" for name, value in values.items())
        return f"SELECT {', '.join(calls)}"


def _leads_to_server(driver_connection: Any) -> bool:
    """Whether it is a session of ours that no proxy gives to others."""
    return getattr(driver_connection, "leads_to_server", False)


def _prepared(session: Any, step: Callable[[], T]) -> T:
    """What *step* returns, its statement prepared; the text of a transaction varies too much."""
    session.prepare_threshold = 0
    result = step()
    session.prepare_threshold = None
    return result


def _run_behind(
    connection: Connection, begin: str, text: str, *, read: Callable[[Any], Any]
) -> Any:
    """What *read* returns of the results of *text*, run behind *begin*, at once if possible."""

    def read_behind(cursor: Any) -> Any:
        for _ in begin.split(";"):
            cursor.nextset()
        return read(cursor)

    if is_ours(connection):
        return run(connection, f"{begin}; {text}", read=read_behind)
    # SQLAlchemy shows only the first result.
    run(connection, begin)
    return run(connection, text, read=read)


def _counts(cursor: Any) -> list[int]:
    counts = [cursor.rowcount]
    while cursor.nextset():
        counts.append(cursor.rowcount)
    return counts


def _in_text(connection: Connection, changes: Iterable[Bound]) -> str:
    texts = [kept.in_text(connection, values, literal=_literal) for kept, values in changes]
    return "".join(f"{each}; " for each in texts)


def _literal(value: object) -> str:
    """
    *value* in SQL, whatever a session's settings for quotes and escapes.

    Statements without parameters are sent together: one round trip in place of several.
    """
    match value:
        case None:
            return "NULL"
        case int():
            return str(value).lower()
        case bytes():
            return f"decode('{value.hex()}', 'hex')"
        case datetime():
            return f"TIMESTAMPTZ '{value.isoformat()}'"
    assert isinstance(value, str)
    return f"convert_from({_literal(value.encode())}, 'UTF8')"


_PERSISTENCE = text("SELECT relpersistence FROM pg_class WHERE oid = to_regclass(:of_name)")


@functools.cache
def _bounded_connection() -> Any:
    """
    psycopg's connection, on which no statement waits for ever.

    The server's own limits come first. They do not count while a proxy has no session free, and
    a server that is stopped does not keep them.
    """
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_bounded(gen), *args, **kwargs)
            except TimeoutError:
                self.close()
            raise psycopg.OperationalError("the server did not respond in time")

    return BoundedConnection


def _bounded(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The *steps* of a statement; psycopg resumes them ten times a second while it waits."""
    deadline = time.monotonic() + dialects.PATIENCE_SECONDS + 1
    ready = None
    while True:
        try:
            wanted = steps.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise TimeoutError
