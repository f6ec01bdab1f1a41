"""PostgreSQL and MariaDB in turn, and another client of the same database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sql import dialects
from tests.storage.servers import Server


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def url(server: Server, make_empty: Callable[[str], str]) -> str:
    """A database with our tables, empty."""
    return make_empty(server.url)


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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "PATIENCE_SECONDS", 0.5)


def on(url: str, of: dict[str, str]) -> str:
    return of[url.split("+")[0]]
