"""A PgBouncer in front of a test's PostgreSQL, with one session for all of its clients."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.processes import free_port
from tests.storage import servers

_SETTINGS = """
[databases]
postgres = host={folder} port=5432 dbname=postgres user=finch pool_size=1

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
query_wait_timeout = 0
"""


@contextmanager
def pgbouncer(server: servers.Server) -> Iterator[servers.Server]:
    """The proxy in transaction mode, as Debian installs it."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise servers.Missing("no pgbouncer on the PATH (Debian: pgbouncer)")
    [behind] = parse_qs(urlsplit(server.url).query)["host"]
    with servers._folder() as folder:
        port = free_port()
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(_SETTINGS.format(folder=behind, port=port))
        settings.chmod(0o644)
        proxy = servers.Server(
            url=f"postgresql+psycopg://finch@127.0.0.1:{port}/postgres",
            command=[program, str(settings)],
            answers=lambda: servers._answers("postgresql", host="127.0.0.1", port=port),
            goodbye=servers.signal.SIGINT,
        )
        with servers._running(proxy):
            yield proxy
