"""A Redis behind Sentinel: the storage follows a failover, and no code is claimed twice."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.testing.sample_records import an_attempt
from tests.storage import servers
from tests.waiting import wait_until

pytestmark = pytest.mark.full

NAME = "finch"


@pytest.fixture
def sentinel() -> Iterator[Any]:
    serving = functools.partial(servers.redis_sentinel, NAME)
    for server in servers.served("redis_sentinel", serving):
        found = Sentinel([("127.0.0.1", urlsplit(server.url).port)], socket_timeout=60)
        wait_until(lambda: len(found.discover_slaves(NAME)) == 1)  # noqa: B023  # called at once
        yield found
        found.sentinels[0].close()


def test_t46_a_failover_is_followed_and_keeps_the_claims(sentinel: Any) -> None:
    master = sentinel.master_for(NAME, socket_timeout=60)
    storage = RedisStorage(master)
    claimed = an_attempt("before")
    assert storage.claim(claimed) is None
    wait_until(lambda: master.wait(1, 100) == 1)
    before = sentinel.discover_master(NAME)

    wait_until(lambda: _begins_a_failover(sentinel))
    with suppress(StorageUnavailable):
        storage.claim(an_attempt("meanwhile"))
    wait_until(lambda: _master(sentinel) not in (None, before))

    def claims_again() -> bool:
        with suppress(StorageUnavailable):
            storage.claim(an_attempt("after"))
            return True
        return False

    wait_until(claims_again)
    assert storage.claim(an_attempt("before", attempt_id="another")) == claimed
    master.close()


def _begins_a_failover(sentinel: Any) -> bool:
    # Refused while the sentinel has not heard of the replica for some seconds.
    with suppress(ResponseError):
        sentinel.sentinels[0].sentinel_failover(NAME)
        return True
    return False


def _master(sentinel: Any) -> Any:
    with suppress(MasterNotFoundError):
        return sentinel.discover_master(NAME)
    return None
