from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.storage import servers
from tests.storages import emptied
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _patient(patient: None) -> None:
    """Whatever races here ends as it must, on a machine however busy."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    yield from servers.served("postgresql", servers.postgresql)


@pytest.fixture(scope="session")
def mysql() -> Iterator[servers.Server]:
    yield from servers.served("mysql", servers.mysql)


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.Server]:
    yield from servers.served("redis", servers.redis)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[servers.Server]:
    yield from servers.served("redis_cluster", servers.redis_cluster)


@pytest.fixture
def postgresql_url(postgresql: servers.Server) -> str:
    """The PostgreSQL database with our tables, empty."""
    return emptied(postgresql.url)


@pytest.fixture
def mysql_url(mysql: servers.Server) -> str:
    """The MariaDB database with our tables, empty."""
    return emptied(mysql.url)


#: The other sessions, and how one is ended.
_SESSIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mysql": "SELECT id FROM information_schema.processlist"
    " WHERE id <> connection_id() AND user = 'root'",
}
_END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


@pytest.fixture
def cut_connections(url: str) -> Callable[[], None]:
    """Every connection to the SQL server ends, from its side."""

    def cut() -> None:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:

            def sessions() -> set[int]:
                return set(connection.execute(text(_SESSIONS[engine.dialect.name])).scalars())

            ended = sessions()
            for number in ended:
                with suppress(OperationalError):  # it has ended meanwhile
                    connection.execute(text(_END[engine.dialect.name].format(number)))
            wait_until(lambda: not ended & sessions())
        engine.dispose()

    return cut
