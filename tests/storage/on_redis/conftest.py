"""An empty Redis, and the storage in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from finch_middleware.storage.redis.storage import RedisStorage
from tests.storage.servers import Server

# The same client serves both ways of use, and its types say so at every call.
Client = Any


@pytest.fixture
def client(redis: Server) -> Iterator[Client]:
    """Somebody else on the same server, which is empty."""
    with Redis.from_url(redis.url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def url(redis: Server, client: Client) -> str:
    return redis.url


@pytest.fixture
def storage(url: str) -> Iterator[RedisStorage]:
    storage = RedisStorage(url)
    yield storage
    storage.close()
