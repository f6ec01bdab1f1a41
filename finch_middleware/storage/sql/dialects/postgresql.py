"""PostgreSQL, through psycopg."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import Insert

from finch_middleware.errors import SchemaMismatch
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.dialects import Dialect, Fault, upsert


class PostgreSQL(Dialect):
    """A PostgreSQL server. Each transaction sets its own limits, so that a proxy may be used."""

    facts: ClassVar = {
        "PostgreSQL": "SHOW server_version",
        "fsync": "SHOW fsync",
        "synchronous_commit": "SHOW synchronous_commit",
    }

    _FAULTS: ClassVar = {
        "23505": Fault("conflict", passing=True),
        "25006": Fault("read_only"),
        "28000": Fault("denied"),
        "28P01": Fault("denied"),
        "3F000": Fault("schema_mismatch"),
        "40001": Fault("conflict", passing=True),
        "40P01": Fault("conflict", passing=True),
        "42501": Fault("denied"),
        "42703": Fault("schema_mismatch"),
        "42P01": Fault("schema_mismatch"),
        "53100": Fault("full"),
        "53300": Fault("busy"),
        "55P03": Fault("busy"),
        "57014": Fault("busy"),
        "58030": Fault("io_error"),
    }
    # The number of an advisory lock: the first bytes of "finch_middleware".
    _SCHEMA_LOCK = 0x66696E63685F6D69

    def engine_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self._driver not in ("psycopg", "psycopg2"):
            return options
        patience = math.ceil(dialects.PATIENCE_SECONDS)
        options["connect_args"] = {
            "connect_timeout": patience,
            # A host that is gone acknowledges neither what is sent nor the probes that are
            # sent while we wait. A host whose PostgreSQL alone hangs acknowledges both: no
            # setting of libpq limits that.
            "tcp_user_timeout": patience * 1000,
            "keepalives_idle": patience,
            "keepalives_interval": 1,
            "keepalives_count": 2,
        }
        if self._driver == "psycopg":
            # A proxy may give the next statement another session, without what was prepared.
            options["connect_args"]["prepare_threshold"] = None
        return options

    def opened(self, driver_connection: Any) -> None:
        """Each transaction sets its own limits."""

    def begin(self, connection: Connection) -> None:
        # LOCAL: the application or a proxy gives the session to others afterwards.
        connection.exec_driver_sql(
            f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._limits()}"
            "SELECT set_config('synchronous_commit', 'on', true)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        ).close()

    @contextmanager
    def reading(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql(f"BEGIN READ ONLY; {self._limits()}").close()
        yield
        connection.exec_driver_sql("COMMIT")

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._SCHEMA_LOCK})")
        yield

    def require_durability(self, connection: Connection) -> None:
        if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
            raise SchemaMismatch("this PostgreSQL may lose a committed token: set fsync = on")

    def insertion(self, table: Table) -> Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def newest(self, table: Table) -> Insert:
        return upsert(postgresql.insert(table), table=table)

    def driver_fault(self, error: BaseException | None) -> Fault:
        # psycopg 3 and psycopg2 name the SQLSTATE differently.
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        return self._FAULTS.get(str(state), Fault("unavailable"))

    def _limits(self) -> str:
        milliseconds = math.ceil(dialects.PATIENCE_SECONDS * 1000)
        limits = ("statement_timeout", "lock_timeout")
        return "".join(f"SET LOCAL {limit} = {milliseconds}; " for limit in limits)
