"""The storage in Redis while its server is unavailable, full, or set up badly."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from redis import Redis

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of, sealed
from tests.storage.on_redis.conftest import Client, setting
from tests.storage.servers import Server, stopped
from tests.waiting import wait_until

_PASSWORD = "canary"


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
    ],
)
def test_server_that_may_lose_a_token_is_refused(
    storage: RedisStorage, client: Client, name: str, value: str
) -> None:
    with setting(client, name, value):
        with pytest.raises(SchemaMismatch, match=f"set {name} .*accept_data_loss=True"):
            storage.check()
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt())

    assert refused.value.reason == "schema_mismatch"
    assert storage.claim(an_attempt()) is None


def test_server_that_may_lose_a_token_is_taken_where_that_is_accepted(
    url: str, client: Client
) -> None:
    storage = RedisStorage(url, accept_data_loss=True)

    with setting(client, "appendfsync", "everysec"):
        storage.check()

    storage.close()


@pytest.mark.parametrize(
    "query", ["accept_data_loss=true", "db=0&accept_data_loss=true", "accept_data_loss=true&db=0"]
)
def test_url_may_say_that_a_loss_is_accepted(url: str, client: Client, query: str) -> None:
    storage = RedisStorage(f"{url}?{query}")

    with setting(client, "appendfsync", "everysec"):
        storage.check()

    storage.close()


def test_url_that_refuses_a_loss_is_checked_like_one_without_the_option(
    url: str, client: Client
) -> None:
    storage = RedisStorage(f"{url}?accept_data_loss=false")

    with (
        setting(client, "appendfsync", "everysec"),
        pytest.raises(SchemaMismatch, match=r"\?accept_data_loss=true"),
    ):
        storage.check()

    storage.close()


def test_url_whose_option_is_neither_true_nor_false_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="storage URL must be true or false"):
        RedisStorage(f"{url}?accept_data_loss=yes")


def test_server_that_hides_its_settings_is_refused(
    restricted: Callable[..., RedisStorage],
) -> None:
    storage = restricted("+@all", "-config")
    assert "appendfsync unknown" in storage.describe()

    with pytest.raises(SchemaMismatch, match="accept_data_loss=True"):
        storage.check()


# Faults


def test_wrong_password_is_denied(url: str) -> None:
    with (
        Redis.from_url(url, username="app", password=_PASSWORD) as client,
        pytest.raises(StorageUnavailable) as refused,
    ):
        RedisStorage(client).check()

    assert refused.value.reason == "denied"
    assert "canary" not in "".join(traceback.format_exception(refused.value))


def test_full_server_refuses_check_and_claim_and_keeps_what_it_has(
    storage: RedisStorage, client: Client
) -> None:
    storage.claim(an_attempt())

    with setting(client, "maxmemory", "1"):
        with pytest.raises(StorageUnavailable) as at_check:
            storage.check()
        with pytest.raises(StorageUnavailable) as at_claim:
            storage.claim(an_attempt("other"))

    assert (at_check.value.reason, at_claim.value.reason) == ("full", "full")

    assert storage.attempt(key_of("code")) == an_attempt()
    assert storage.attempt(key_of("other")) is None


def test_replica_is_read_only(storage: RedisStorage, client: Client) -> None:
    storage.check()
    client.execute_command("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(StorageUnavailable) as refused:
        storage.check()
    client.execute_command("REPLICAOF", "NO", "ONE")

    assert refused.value.reason == "read_only"


def test_server_without_its_replicas_is_unavailable(storage: RedisStorage, client: Client) -> None:
    storage.check()

    with (
        setting(client, "min-replicas-to-write", "1"),
        pytest.raises(StorageUnavailable) as refused,
    ):
        storage.claim(an_attempt())

    assert refused.value.reason == "unavailable"
    assert storage.claim(an_attempt()) is None


@pytest.mark.usefixtures("impatient")
def test_server_that_does_not_answer_is_given_up(url: str, client: Client, redis: Server) -> None:
    if not redis.owned:
        pytest.skip("not our server to stop")
    storage = RedisStorage(url)
    storage.check()

    with stopped(redis), pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())
    storage.close()
    # Nobody's late command may reach the next test.
    wait_until(lambda: len(client.client_list()) == 1)

    assert refused.value.reason == "unavailable"


def test_server_that_went_away_is_unavailable_until_it_is_back(
    storage: RedisStorage, redis: Server
) -> None:
    if not redis.owned:
        pytest.skip("not our server to stop")
    storage.claim(an_attempt())

    redis.stop()
    with pytest.raises(StorageUnavailable) as refused:
        storage.attempt(key_of("code"))
    redis.start()

    assert refused.value.reason == "unavailable"
    assert refused.value.__context__ is None
    assert storage.attempt(key_of("code")) == an_attempt()


def test_what_was_confirmed_survives_a_kill(storage: RedisStorage, redis: Server) -> None:
    if not redis.owned:
        pytest.skip("not our server to kill")
    storage.settle(an_attempt().settled(AttemptState.STORED, at=NOON), a_connection())

    redis.kill()
    redis.start()

    assert storage.get("connection") == a_connection()


def test_error_keeps_nothing_of_the_command(
    restricted: Callable[..., RedisStorage],
) -> None:
    storage = restricted("+@read", "+config")
    secret = sealed("canary")

    with pytest.raises(StorageUnavailable) as refused:
        storage.settle(an_attempt(), a_connection(sealed=secret))

    assert refused.value.__context__ is None
    assert "canary" not in "".join(traceback.format_exception(refused.value))
