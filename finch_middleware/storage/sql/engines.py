"""An engine of our own, and how that of the application is used."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, Pool, QueuePool, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from finch_middleware.errors import ConfigurationError, StorageUnavailable
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.kept import OURS

_PAUSE_SECONDS = 0.01


def own_engine(url: URL, options: dict[str, Any]) -> Engine:
    """
    An engine that keeps no connections, with the dialect's *options*.

    Raises:
        ConfigurationError: Its driver is not installed.
    """
    try:
        return create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            execution_options={OURS: True},
            # `Database` keeps the open sessions: to take a connection from SQLAlchemy's pool and
            # to give it back takes as long as SQLite needs for a row.
            poolclass=NullPool,
            **options,
        )
    except (ArgumentError, ImportError):
        pass
    raise ConfigurationError(
        [f"The driver of {url.drivername} is not installed: install it with pip."]
    )


def set_autocommit(connection: Connection) -> None:
    """Put a connection of the application's into autocommit; its pool undoes that."""
    try:
        connection.execution_options(isolation_level="AUTOCOMMIT")
    except Exception:  # the driver's own: SQLAlchemy wraps errors of statements only
        # If the session has ended, SQLAlchemy notices it here, for all of the pool.
        connection.exec_driver_sql("SELECT 1")
        raise


def await_room(pool: Pool) -> None:
    """
    Return when *pool*, the application's, has a connection to give.

    The pool itself waits as long as the application has decided, thirty seconds by default.

    Raises:
        StorageUnavailable: All its connections are in use.
    """
    deadline = time.monotonic() + dialects.PATIENCE_SECONDS
    # SQLAlchemy has no public name for the limit; -1 is none.
    while (
        isinstance(pool, QueuePool)
        and pool.checkedin() == 0
        and -1 < pool._max_overflow <= pool.overflow()
    ):
        if time.monotonic() > deadline:
            raise StorageUnavailable("busy")
        time.sleep(_PAUSE_SECONDS)
