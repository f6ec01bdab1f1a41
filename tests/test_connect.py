"""The component's own duties: what it reports at construction, and how it is assembled."""

from __future__ import annotations

import pytest

from finch_middleware import ConfigurationError, FinchConnect
from finch_middleware.connect import storage_of
from finch_middleware.storage.redis import RedisStorage


def test_faults_of_settings_and_of_pages_are_reported_in_one_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        FinchConnect(client_id="c", texts={"no.such.page": {"title": "x"}})

    told = "\n".join(caught.value.faults)
    assert "client_secret" in told
    assert "no.such.page" in told


def test_a_redis_url_names_the_redis_storage() -> None:
    assert isinstance(storage_of("redis://127.0.0.1:1/0"), RedisStorage)
    assert isinstance(storage_of("rediss://127.0.0.1:1/0"), RedisStorage)
    assert isinstance(storage_of("unix:///run/redis.sock"), RedisStorage)
