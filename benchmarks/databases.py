"""Empty databases for benchmarks: an SQLite file, a private server, or one that is named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.storage import servers

HELP = (
    "sqlite, postgresql, mysql, redis (a private one of each, which goes again), "
    "or the URL of an empty one"
)
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
