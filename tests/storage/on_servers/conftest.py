"""PostgreSQL and MariaDB in turn, and another client of the same database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from tests.storage.servers import Server
from tests.storages import emptied
from tests.waiting import wait_until


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def url(server: Server) -> str:
    """A database with our tables, empty."""
    return emptied(server.url)


@pytest.fixture
def operator(server: Server) -> Iterator[Engine]:
    """Somebody else in the same database."""
    engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def prefix(operator: Engine) -> Iterator[str]:
    """Names of tables that do not exist, and will not when the test is over."""
    prefix = "elsewhere_"
    yield prefix
    with operator.connect() as connection:
        for table in ("attempts", "connections"):
            connection.execute(text(f"DROP TABLE IF EXISTS {prefix}{table}"))


@contextmanager
def configured(operator: Engine, *, name: str, value: str) -> Iterator[None]:
    """A PostgreSQL with that setting in all sessions that begin; and then as before."""

    def put(statement: str, *, until: str) -> None:
        with operator.connect() as connection:
            connection.execute(text(statement))
            connection.execute(text("SELECT pg_reload_conf()"))
        wait_until(lambda: current() == until)

    def current() -> str:
        with operator.connect() as connection:
            return str(connection.execute(text(f"SHOW {name}")).scalar_one())

    before = current()
    put(f"ALTER SYSTEM SET {name} = {value}", until=value)
    try:
        yield
    finally:
        put(f"ALTER SYSTEM RESET {name}", until=before)


def on(url: str, of: dict[str, str]) -> str:
    return of[url.split("+")[0]]
