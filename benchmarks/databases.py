"""Empty databases for benchmarks: an SQLite file, a private server, or one that is named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from tests.storage import servers

HELP = (
    "sqlite, postgresql, mysql, redis (a private one of each, which goes again), "
    "or the URL of an empty one"
)
_CALM = {
    "postgresql": "VACUUM ANALYZE",
    "mysql": "ANALYZE TABLE finch_attempts, finch_connections",
    "sqlite": "PRAGMA wal_checkpoint(TRUNCATE)",
}
_SERVERS = {"postgresql": servers.postgresql, "mysql": servers.mysql, "redis": servers.redis}


@contextmanager
def named(name: str) -> Iterator[str]:
    """The URL of the database that *name* means."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/finch.db"
    elif name in _SERVERS:
        with _SERVERS[name]() as server:
            yield server.url
    else:
        yield name


def calm(engine: Engine) -> None:
    """Let the database do now what it would do later in the background."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(_CALM[engine.dialect.name]))
