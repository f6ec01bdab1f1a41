from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.storage import servers


@pytest.fixture
def fake(echo_state: bool) -> Iterator[FakeFinch]:
    """A fake with a client secret that no other text holds a part of."""
    with FakeFinch(client_secret=secrets.token_urlsafe(24), echo_state=echo_state) as fake:
        yield fake


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], str]]:
    """The URL of a database server of that kind, started when first asked for."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def started(kind: str) -> str:
            if kind not in urls:
                serving = contextmanager(servers.served)(kind, getattr(servers, kind))
                urls[kind] = stack.enter_context(serving).url
            return urls[kind]

        yield started


@pytest.fixture
def empty_database(started: Callable[[str], str]) -> Callable[[str], str]:
    """The URL of an empty database with our tables, on a server of that kind."""

    def empty_database(kind: str) -> str:
        url = started(kind)
        if kind == "redis":
            with Redis.from_url(url) as client:
                client.flushdb()
        else:
            _empty(url)
        return url

    return empty_database


def _empty(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.create_tables()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for table in storage.metadata.sorted_tables:
            connection.execute(table.delete())
    storage.close()
    engine.dispose()
