"""Storages that several processes share, on every backend that they can share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import an_attempt, key_of


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path, make_empty: Callable[[str], str]) -> str:
    """An empty storage of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/finch.db"
    url: str = request.getfixturevalue(request.param).url
    if request.param != "redis":
        return make_empty(url)
    with Redis.from_url(url) as client:
        client.flushdb()
    return url


def _opened(url: str) -> SQLAlchemyStorage | RedisStorage:
    return SQLAlchemyStorage(url) if "+" in url or "sqlite" in url else RedisStorage(url)


@pytest.fixture
def storage(url: str) -> Iterator[SQLAlchemyStorage | RedisStorage]:
    storage = _opened(url)
    yield storage
    storage.close()


def test_forked_child_leaves_the_connections_of_its_parent_alone(
    storage: SQLAlchemyStorage | RedisStorage,
) -> None:
    storage.claim(an_attempt("parent"))

    child = os.fork()
    if child == 0:
        lost = storage.claim(an_attempt("parent", attempt_id="child")) is not None
        won = storage.claim(an_attempt("child")) is None
        storage.close()
        os._exit(0 if lost and won else 1)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert exit_code == 0
    assert storage.claim(an_attempt("after")) is None
    assert storage.attempt(key_of("child")) == an_attempt("child")
