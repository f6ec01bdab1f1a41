"""Rows that a later version wrote, or that were altered: the others are still found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import StoredConnection, connection_hash
from finch_middleware.storage.events import StoredEvent, event_hash
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.redis.plan import record_key
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, an_event, key_of
from tests.storages import emptied

Spoil = Callable[[str, str], None]
LATER = NOON.replace(year=2030)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[SQLAlchemyStorage, Spoil]]:
    """A storage, and what alters a column of one row."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/finch.db"
    else:
        url = emptied(request.getfixturevalue(request.param).url)
    engine, storage = create_engine(url, poolclass=NullPool), SQLAlchemyStorage(url)
    storage.check()

    def spoil(table: str, name: str) -> None:
        column, damage = {
            "connections": ("connection_id", "products"),
            "attempts": ("reference", "state"),
        }[table]
        statement = f"UPDATE finch_{table} SET {damage} = '[' WHERE {column} = :name"
        with engine.begin() as connection:
            assert connection.execute(text(statement), {"name": name}).rowcount == 1

    yield storage, spoil
    storage.close()
    engine.dispose()


@pytest.fixture
def in_redis(redis: object) -> Iterator[tuple[RedisStorage, Redis]]:
    with Redis.from_url(redis.url) as client:  # type: ignore[attr-defined]  # a Server
        client.flushdb()
        storage = RedisStorage(client)
        yield storage, client


def _fill(storage: SQLAlchemyStorage | RedisStorage) -> list[str]:
    """Six connections of acme, in the order of a scan."""
    for i in range(6):
        done = an_attempt(f"{i}").settled(AttemptState.STORED, at=NOON)
        storage.settle(done, a_connection(f"{i}"))
    return [each.connection_id for each in storage.scan(after=None, limit=6).rows]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_scan_sees_every_row_that_can_be_read_and_a_survey_names_the_others(
    database: tuple[SQLAlchemyStorage, Spoil], limit: int
) -> None:
    storage, spoil = database
    order = _fill(storage)
    bad = {order[0], order[2], order[3], order[5]}
    for name in bad:
        spoil("connections", name)

    seen, named = _surveyed(storage, limit=limit)

    assert seen == [order[1], order[4]]
    assert named == bad


def _surveyed(
    storage: SQLAlchemyStorage | RedisStorage, *, limit: int
) -> tuple[list[str], set[str]]:
    seen: list[str] = []
    named: set[str] = set()
    after: object | None = None
    while True:
        batch = storage.scan(after=after, limit=limit)
        named.update(batch.unreadable)
        seen += [each.connection_id for each in batch.rows]
        after = batch.after
        if after is None:
            return seen, named


def test_a_customer_keeps_the_connections_that_can_be_read(
    database: tuple[SQLAlchemyStorage, Spoil],
) -> None:
    storage, spoil = database
    order = _fill(storage)
    spoil("connections", order[0])

    mine = [each.connection_id for each in storage.for_customer("acme")]
    won, existing = storage.claim_and_read(an_attempt("new"))
    with pytest.raises(StorageUnavailable) as refused:
        storage.get(order[0])

    assert sorted(mine) == sorted(order[1:])
    assert won is None
    assert [each.connection_id for each in existing] == mine
    assert refused.value.reason == "unreadable"
    assert refused.value.__context__ is None


def test_a_sweep_sees_the_attempts_that_can_be_read(
    database: tuple[SQLAlchemyStorage, Spoil],
) -> None:
    storage, spoil = database
    storage.claim(an_attempt("good"))
    storage.claim(an_attempt("bad", reference="of a later version"))
    spoil("attempts", "of a later version")

    assert list(storage.unsettled(leased_before=LATER)) == [an_attempt("good")]


def test_an_instant_that_is_none_spoils_its_own_row_only(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    order = _fill(storage)
    with closing(sqlite3.connect(tmp_path / "finch.db")) as somebody, somebody:
        somebody.execute(
            "UPDATE finch_connections SET obtained_at = 'soon' WHERE connection_id = ?",
            (order[2],),
        )

    seen, named = _surveyed(storage, limit=4)
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim_and_read(an_attempt("new"))

    assert (seen, named) == ([*order[:2], *order[3:]], {order[2]})
    assert refused.value.reason == "unreadable"
    assert refused.value.unwritten
    assert storage.attempt(key_of("new")) is None
    storage.close()


@pytest.mark.parametrize("instant", [10**17, -(10**17)])
def test_an_instant_beyond_every_calendar_spoils_its_own_row_only(
    tmp_path: Path, instant: int
) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    order = _fill(storage)
    with closing(sqlite3.connect(tmp_path / "finch.db")) as somebody, somebody:
        somebody.execute(
            "UPDATE finch_connections SET entities = ? WHERE connection_id = ?",
            (f'[["e1", null, null, null, {instant}]]', order[0]),
        )

    won, existing = storage.claim_and_read(an_attempt("new"))

    assert won is None
    assert sorted(each.connection_id for each in existing) == sorted(order[1:])
    storage.close()


def test_whatever_reading_raises_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    _fill(storage)

    def fail(row: object) -> StoredConnection:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(StoredConnection, "from_row", fail)
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim_and_read(an_attempt("new"))

    assert refused.value.unwritten
    assert storage.attempt(key_of("new")) is None
    storage.close()


def test_a_storage_of_ones_own_claims_nothing_where_it_cannot_read() -> None:
    class ReadsNothing(MemoryStorage):
        def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
            raise StorageUnavailable("unreadable")

    storage = ReadsNothing()

    with pytest.raises(StorageUnavailable) as refused:
        storage.claim_and_read(an_attempt())

    assert refused.value.unwritten
    assert storage.attempt(key_of("code")) is None


def test_a_token_that_is_no_text_is_named_and_one_in_an_unreadable_row_is_found(
    tmp_path: Path,
) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    order = _fill(storage)
    with closing(sqlite3.connect(tmp_path / "finch.db")) as somebody, somebody:
        for column, name in (("sealed = x'00'", order[1]), ("products = '['", order[2])):
            somebody.execute(
                f"UPDATE finch_connections SET {column} WHERE connection_id = ?", (name,)
            )

    batch = storage.scan_tokens(after=None, limit=10)

    assert {each.connection_id for each in batch.rows} == {*order} - {order[1]}
    assert list(batch.unreadable) == [order[1]]
    storage.close()


def test_a_scan_of_an_unavailable_database_is_an_error(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    storage.check()
    with closing(sqlite3.connect(tmp_path / "finch.db")) as somebody, somebody:
        somebody.execute("DROP TABLE finch_connections")

    with pytest.raises(StorageUnavailable) as refused:
        storage.scan(after=None, limit=4)

    assert refused.value.reason == "unavailable"
    storage.close()


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"products": 1}', b"\xff", b"{}"])
def test_a_value_in_redis_that_is_no_record_is_left_out_and_named(
    in_redis: tuple[RedisStorage, Redis], damage: bytes
) -> None:
    storage, client = in_redis
    order = _fill(storage)
    bad = "{finch}:" + record_key(StoredConnection, connection_hash(order[1]).hex())
    client.set(bad, damage)
    storage.claim(an_attempt("good"))
    storage.claim(an_attempt("bad"))
    client.set("{finch}:" + record_key(Attempt, key_of("bad").hex()), damage)

    seen, named = _surveyed(storage, limit=2)
    with pytest.raises(StorageUnavailable) as refused:
        storage.get(order[1])

    assert (seen, named) == ([order[0], *order[2:]], {bad})
    assert len(storage.for_customer("acme")) == 5
    assert list(storage.unsettled(leased_before=LATER)) == [an_attempt("good")]
    assert refused.value.reason == "unreadable"
    assert refused.value.__context__ is None


def test_an_event_that_cannot_be_read_is_forgotten_like_any_other(
    in_redis: tuple[RedisStorage, Redis],
) -> None:
    storage, client = in_redis
    for minute in range(2):
        storage.receive(an_event(minute, connection_id=f"{minute}"))
        client.set(
            "{finch}:" + record_key(StoredEvent, event_hash(an_event(minute).event_id).hex()), "["
        )
    client.set("{finch}:" + record_key(StoredConnection, connection_hash("1").hex()), "[")

    # The second connection is of a later version, perhaps.
    assert storage.forget_events(received_before=LATER) == 3
    assert storage.forget_events(received_before=LATER) == 0
