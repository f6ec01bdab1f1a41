"""What the storage in Redis needs: the check proves all of it, and a write does all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import RedisCluster

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import customer_hash
from finch_middleware.storage.redis.plan import INDEXES
from finch_middleware.storage.redis.server import RIGHTS
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of, sealed
from tests.storage.on_redis.conftest import Client, setting
from tests.storage.servers import Server
from tests.waiting import wait_until


@pytest.mark.parametrize(
    "rights",
    [
        "+@read +@write +config",
        "+@read +config",
        *(
            f"+@all -{missing}"
            for missing in [
                "@sortedset",
                "@scripting",
                "@write",
                "set",
                "del",
                "zadd",
                "zrem",
                "get",
                "mget",
                "zrangebyscore",
                "zrangebylex",
                "evalsha",
                "script|load",
            ]
        ),
    ],
)
def test_t38_user_who_lacks_a_right_is_refused_before_any_person_is_sent_to_finch(
    restricted: Callable[..., RedisStorage], client: Client, rights: str
) -> None:
    client.script_flush()
    storage = restricted(*rights.split())

    with pytest.raises(SchemaMismatch, match=r"grant it.* ~\{finch\}:\* \+get \+mget") as refused:
        storage.check()

    assert refused.value.__context__ is None
    assert client.keys() == []


def test_user_who_may_not_touch_our_keys_is_refused(
    restricted: Callable[..., RedisStorage],
) -> None:
    storage = restricted("resetkeys", "~other:*", "+@all")

    with pytest.raises(SchemaMismatch, match="grant it"):
        storage.check()


def test_user_with_the_rights_of_the_manual_can_do_everything(
    restricted: Callable[..., RedisStorage], client: Client
) -> None:
    client.script_flush()
    storage = restricted("resetkeys", "~{finch}:*", *RIGHTS.split())
    assert f"\n{RIGHTS}\n" in Path("docs/storage.md").read_text()

    storage.check()
    storage.check()

    assert client.keys() == []
    done = an_attempt(flow_hash=key_of("flow")).settled(AttemptState.STORED, at=NOON)
    held = an_attempt("held").settled(AttemptState.QUARANTINED, at=NOON, sealed=sealed())
    assert storage.claim(an_attempt()) is None
    assert (storage.settle(done, a_connection()), storage.settle(held)) == (True, True)
    storage.release(an_attempt("another"))
    assert list(storage.quarantined()) == [held]
    assert list(storage.unsettled(leased_before=NOON)) == []
    assert list(storage.for_customer("acme")) == [a_connection()]
    assert storage.delete(a_connection(), at=NOON)
    assert storage.scan(after=None, limit=5).rows == []
    assert storage.forget(settled_before=NOON.replace(year=2030)) == 1


@pytest.mark.parametrize("index", INDEXES)
def test_t38_foreign_key_under_our_prefix_is_named_by_the_check(
    storage: RedisStorage, client: Client, index: str
) -> None:
    client.set(f"{{finch}}:{index}", "theirs")

    for again in range(2):
        with pytest.raises(SchemaMismatch, match=rf"the key \{{finch}}:{index} belongs to another"):
            storage.check()
        if not again:
            client.delete(f"{{finch}}:{index}")
            storage.check()
            client.rpush(f"{{finch}}:{index}", "theirs")


def test_plain_client_of_a_cluster_is_refused_with_the_clusters_name(
    cluster_of_two: tuple[Server, Server],
) -> None:
    owner: Client
    with RedisCluster.from_url(cluster_of_two[0].url) as found:
        owner = found.get_node_from_key("{finch}:pending")
    [other] = [each for each in cluster_of_two if not each.url.endswith(f":{owner.port}")]

    storage = RedisStorage(other.url, accept_data_loss=True)

    with pytest.raises(SchemaMismatch, match="pass RedisStorage"):
        storage.check()
    storage.close()


def test_server_that_cannot_write_to_its_disk_is_refused_by_the_check(
    storage: RedisStorage, client: Client, redis: Server
) -> None:
    if not redis.owned:
        pytest.skip("not our server's folder")
    storage.check()
    [folder] = redis.writes

    def saved() -> str:
        client.bgsave()
        wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
        return str(client.info("persistence")["rdb_last_bgsave_status"])

    with setting(client, "save", "3600 1"):
        folder.chmod(0o500)
        try:
            wait_until(lambda: saved() == "err")
            with pytest.raises(StorageUnavailable) as refused:
                storage.check()
        finally:
            folder.chmod(0o700)
            wait_until(lambda: saved() == "ok")

    assert refused.value.reason == "io_error"


# Half-way


def _dump(client: Client) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.scan_iter()}


def _error_of(write: Callable[[], object]) -> StorageUnavailable | None:
    try:
        write()
    except StorageUnavailable as error:
        return error
    return None


_SETTLED = an_attempt(flow_hash=key_of("flow")).settled(AttemptState.STORED, at=NOON)
_WRITES: dict[str, Callable[[RedisStorage], object]] = {
    "claim": lambda storage: storage.claim(an_attempt("other", flow_hash=key_of("flow"))),
    "settle": lambda storage: storage.settle(_SETTLED, a_connection("new")),
    "quarantine": lambda storage: storage.settle(
        an_attempt().settled(AttemptState.QUARANTINED, at=NOON)
    ),
    "release": lambda storage: storage.release(an_attempt()),
    "swap": lambda storage: storage.swap(a_connection(), a_connection(customer_id="other")),
    "delete": lambda storage: storage.delete(a_connection(), at=NOON),
    "forget": lambda storage: storage.forget(settled_before=NOON.replace(year=2030)),
}


@pytest.fixture
def filled(storage: RedisStorage, client: Client) -> dict[bytes, bytes]:
    """What is stored before a write that fails: each write would change several keys."""
    storage.claim(an_attempt())
    ended = an_attempt("ended").settled(AttemptState.FAILED, at=NOON)
    storage.settle(ended, a_connection())
    return _dump(client)


@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES)
@pytest.mark.parametrize("missing", ["set", "del", "zadd", "zrem", "@sortedset", "@write"])
def test_t39_write_that_lacks_a_right_is_not_half_done(
    restricted: Callable[..., RedisStorage],
    filled: dict[bytes, bytes],
    client: Client,
    missing: str,
    write: Callable[[RedisStorage], object],
) -> None:
    storage = restricted("+@all", f"-{missing}")

    refused = _error_of(lambda: write(storage))

    assert (refused is None) == (_dump(client) != filled)
    assert refused is None or (refused.reason, refused.__context__) == ("denied", None)


@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES)
@pytest.mark.parametrize(
    "foreign", [*INDEXES, "customer:" + customer_hash("acme").hex(), "flow:" + key_of("flow").hex()]
)
def test_t39_write_that_meets_a_foreign_key_is_not_half_done(
    storage: RedisStorage,
    filled: dict[bytes, bytes],
    client: Client,
    foreign: str,
    write: Callable[[RedisStorage], object],
) -> None:
    client.delete(f"{{finch}}:{foreign}")
    client.rpush(f"{{finch}}:{foreign}", "theirs")
    before = _dump(client)

    refused = _error_of(lambda: write(storage))

    assert (refused is None) == (_dump(client) != before)
    assert refused is None or refused.reason == "schema_mismatch"


@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES)
def test_t39_write_to_a_full_server_is_whole_or_not_done(
    storage: RedisStorage,
    filled: dict[bytes, bytes],
    client: Client,
    write: Callable[[RedisStorage], object],
) -> None:
    with setting(client, "maxmemory", "1"):
        refused = _error_of(lambda: write(storage))

    assert (refused is None) == (_dump(client) != filled)
    assert refused is None or refused.reason == "full"
