from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sqlalchemy import SQLAlchemyStorage
from tests.storage import servers

pytest.register_assert_rewrite(
    "finch_middleware.testing.attempt_promises",
    "finch_middleware.testing.connection_promises",
    "finch_middleware.testing.storage_contract",
)


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


@pytest.fixture(scope="session")
def make_empty() -> Iterator[object]:
    """Makes the tables of a server's database, or empties them."""
    engines = {}

    def make_empty(url: str) -> str:
        if url not in engines:
            SQLAlchemyStorage(url).create_tables()
            engines[url] = create_engine(url, poolclass=NullPool)
        with engines[url].begin() as connection:
            for table in SQLAlchemyStorage(url).metadata.sorted_tables:
                connection.execute(table.delete())
        return url

    yield make_empty
    for engine in engines.values():
        engine.dispose()
