"""An empty Redis, and the storage in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from finch_middleware.storage.redis.storage import RedisStorage
from tests.storage import servers
from tests.storage.servers import Server
from tests.waiting import wait_until

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


@pytest.fixture(scope="session")
def cluster_of_two() -> Iterator[tuple[Server, Server]]:
    for both in servers.served("redis_cluster", servers.redis_cluster_of_two):
        if isinstance(both, Server):
            pytest.skip("a cluster of somebody else's is not ours to set up badly")
        yield both


@pytest.fixture
def restricted(url: str, client: Client) -> Iterator[Callable[..., RedisStorage]]:
    """Makes storages whose user has the rights given."""
    opened: list[Client] = []

    def restricted(*rights: str) -> RedisStorage:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", *rights)
        opened.append(Redis.from_url(url, username="app", password="secret"))
        return RedisStorage(opened[-1])

    yield restricted
    client.execute_command("ACL", "DELUSER", "app")
    for each in opened:
        each.close()


@contextmanager
def setting(client: Client, name: str, value: str) -> Iterator[None]:
    """Another value of that setting of the server."""
    before = client.config_get(name)
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before[name])
        # A log that was switched on again begins when the first copy of everything is written.
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
