"""The storage in Redis."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from redis import Redis, RedisCluster

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.events import event_hash
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.redis.plan import record_key
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    an_attempt,
    an_event,
    key_of,
    scanned,
)
from finch_middleware.testing.storage_contract import StorageContract
from tests.storage.on_redis.conftest import Client
from tests.storage.servers import Server
from tests.storages import ContractByUrl, reopened
from tests.waiting import wait_until


class TestRedis(ContractByUrl):
    kind = RedisStorage

    @pytest.fixture
    def unconfirmed(
        self, storage: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], AbstractContextManager[None]]:
        return lambda: _unconfirmed(storage, monkeypatch)

    @pytest.fixture
    def cut_connections(self, client: Client) -> Callable[[], None]:
        return lambda: client.client_kill_filter(_type="normal", skipme=True)


@contextmanager
def _unconfirmed(storage: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The script runs on the server, and its answer is lost."""
    script = storage._server._script

    def lose_the_answer(**given: Any) -> None:
        script(**given)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(storage._server, "_script", lose_the_answer)
        yield


def _on_cluster(url: str) -> Storage:
    client = RedisCluster.from_url(url)
    storage = RedisStorage(client)
    weakref.finalize(storage, client.close)
    return storage


def test_a_storage_without_a_reference_closes_its_connections(url: str) -> None:
    def connected() -> set[str]:
        return {each["id"] for each in client.client_list()}

    with Redis.from_url(url) as client:
        before = connected()
        storage = RedisStorage(url)
        storage.check()
        its_own = connected() - before

        del storage

        assert its_own
        # The server notices a closed connection a moment later.
        wait_until(lambda: not its_own & connected())


class TestClientOfTheApplication(StorageContract):
    @pytest.fixture
    def storage(self, url: str) -> Iterator[Storage]:
        with Redis.from_url(url, decode_responses=True) as client:
            yield RedisStorage(client, prefix="app:{payroll}:")

    @pytest.fixture
    def reopen(self, url: str) -> Iterator[Callable[[], Storage]]:
        with Redis.from_url(url) as client:
            yield lambda: RedisStorage(client, prefix="app:{payroll}:")


class TestCluster(StorageContract):
    @pytest.fixture
    def storage(self, redis_cluster: Server) -> Iterator[Storage]:
        with RedisCluster.from_url(redis_cluster.url) as client:
            client.flushdb()
            yield RedisStorage(client)

    @pytest.fixture
    def reopen(self, redis_cluster: Server) -> Callable[[], Storage]:
        return functools.partial(reopened, _on_cluster, redis_cluster.url)


def test_cluster_that_keeps_what_it_confirms_passes_the_check(redis_cluster: Server) -> None:
    with RedisCluster.from_url(redis_cluster.url) as client:
        RedisStorage(client).check()


@pytest.mark.parametrize("careless", ["the owner", "the other"])
def test_node_that_holds_our_keys_is_asked_what_it_may_lose(
    cluster_of_two: tuple[Server, Server], careless: str
) -> None:
    with RedisCluster.from_url(cluster_of_two[0].url) as client:
        owner = client.get_node_from_key("{finch}:connections")
        [other] = [node for node in client.get_primaries() if node != owner]
        node: Client = owner if careless == "the owner" else other
        client.config_set("appendfsync", "everysec", target_nodes=node)
        storage = RedisStorage(client)

        if careless == "the owner":
            with pytest.raises(SchemaMismatch, match="appendfsync"):
                storage.check()
        else:
            storage.check()

        client.config_set("appendfsync", "always", target_nodes=node)
        storage.check()


def test_cluster_that_has_lost_our_slot_is_unavailable(
    cluster_of_two: tuple[Server, Server],
) -> None:
    with RedisCluster.from_url(cluster_of_two[0].url) as client:
        slot = client.keyslot("{finch}:connections")
        found, client.nodes_manager.slots_cache[slot] = client.nodes_manager.slots_cache[slot], []
        storage = RedisStorage(client)

        with pytest.raises(StorageUnavailable) as refused:
            storage.check()

        client.nodes_manager.slots_cache[slot] = found
        assert refused.value.__context__ is None


def test_client_of_the_application_stays_open_when_the_storage_is_closed(url: str) -> None:
    with Redis.from_url(url) as client:
        client.ping()
        storage = RedisStorage(client)

        storage.close()

        assert client.connection_pool._available_connections


def test_server_is_described_by_its_settings(storage: RedisStorage, client: Client) -> None:
    described = storage.describe()

    assert list(described) == [
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
        "keys {finch}:*",
    ]


# Keys


def test_constructing_opens_nothing() -> None:
    RedisStorage("redis://192.0.2.1:1/0")


@pytest.mark.parametrize("prefix", ["finch:", "{}:", "finch}:{", ""])
def test_prefix_without_a_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="hash tag"):
        RedisStorage("redis://localhost", prefix=prefix)


@pytest.mark.parametrize("url", ["hunter2", "http://user:hunter2@host/", "redis://host:hunter2/"])
def test_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisStorage(url)

    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None


def test_every_key_is_in_the_slot_of_the_prefix(storage: RedisStorage, client: Client) -> None:
    _fill(storage)

    keys = client.keys()

    assert len(keys) > 5
    assert all(key.startswith(b"{finch}:") for key in keys)


def test_only_the_tombstone_is_left_when_everything_is_removed(
    storage: RedisStorage, client: Client
) -> None:
    _fill(storage)

    storage.forget(settled_before=NOON.replace(year=2030))
    storage.release(an_attempt("claimed", flow_hash=key_of("flow of claimed")))
    storage.delete(a_connection(), at=NOON)

    assert client.keys() == [b"{finch}:connection:" + connection_hash("connection").hex().encode()]


def test_connection_that_changes_hands_leaves_its_customer(storage: RedisStorage) -> None:
    old = a_connection()
    storage.settle(an_attempt(), old)

    storage.swap(old, a_connection(customer_id="other"))

    assert list(storage.for_customer("acme")) == []
    assert list(storage.for_customer("other")) == [a_connection(customer_id="other")]


def test_no_key_expires(storage: RedisStorage, client: Client) -> None:
    _fill(storage)

    keys = client.keys()

    assert {client.ttl(key) for key in keys} == {-1}


def _fill(storage: RedisStorage) -> None:
    done = an_attempt("stored", flow_hash=key_of("flow")).settled(AttemptState.STORED, at=NOON)
    storage.claim(an_attempt("stored"))
    storage.settle(done, a_connection())
    storage.claim(an_attempt("claimed", flow_hash=key_of("flow of claimed")))


# Races


@pytest.mark.parametrize("lost", [1, 3])
def test_plan_that_came_too_late_is_made_anew(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    server = storage._server
    answers, write = iter([False] * lost), server.write
    monkeypatch.setattr(server, "write", lambda plan: next(answers, True) and write(plan))

    storage.settle(an_attempt(), a_connection())

    assert storage.get("connection") == a_connection()


def test_plan_that_always_comes_too_late_is_given_up(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage._server, "write", lambda _: False)

    for call in (storage.claim, storage.settle):
        with pytest.raises(StorageUnavailable) as refused:
            call(an_attempt(flow_hash=key_of("flow")))

        assert refused.value.reason == "busy"


def test_forget_leaves_an_attempt_that_is_pending_again_meanwhile(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.claim(an_attempt())
    codes = [key_of("code").hex(), key_of("gone").hex()]
    monkeypatch.setattr(storage._server, "members", lambda *_, **__: codes)

    assert storage.forget(settled_before=NOON.replace(year=2030)) == 0
    assert storage.attempt(key_of("code")) == an_attempt()


def test_events_and_connections_that_changed_meanwhile_are_not_forgotten(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.receive(an_event())
    storage.settle(an_attempt(), a_connection("stored"))
    storage.delete(storage.get("stored") or a_connection(), at=NOON)
    names = ["connection", "stored", "gone"]
    hashes = {
        "events": [event_hash(an_event().event_id).hex(), event_hash("gone").hex()],
        "announced": [connection_hash(name).hex() for name in names],
    }
    monkeypatch.setattr(storage._server, "members", lambda key, **_: hashes[key])

    assert storage.forget_events(received_before=an_event().received_at) == 0
    assert storage.row("connection") is not None
    assert storage.row("stored") is not None


def test_attempt_that_goes_between_the_looks_at_index_and_record_is_left_out(
    storage: RedisStorage, client: Client
) -> None:
    storage.claim(an_attempt("gone"))
    storage.claim(an_attempt("stays"))
    client.delete("{finch}:" + record_key(Attempt, key_of("gone").hex()))

    found = storage.unsettled(leased_before=NOON.replace(year=2030))

    assert list(found) == [an_attempt("stays")]


def test_scan_continues_after_a_batch_that_was_deleted_meanwhile(
    storage: RedisStorage, client: Client
) -> None:
    for i in range(6):
        storage.settle(an_attempt(f"{i}"), a_connection(f"{i}"))
    order = [each.connection_id for each in storage.scan(after=None, limit=6).rows]
    for connection_id in order[:3]:
        # Gone between the look at the index and the look at the record.
        client.delete(
            "{finch}:" + record_key(StoredConnection, connection_hash(connection_id).hex())
        )

    found = [each.connection_id for each in scanned(storage.scan, limit=2)]

    assert found == order[3:]
