"""Pools without a free session, or full of sessions with a former primary."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.storage.sql.write_queue import Turn
from finch_middleware.testing.sample_records import all_at_once, an_attempt, key_of
from finch_middleware.testing.storage_contract import StorageContract
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.storage import servers
from tests.storage.on_servers.conftest import configured
from tests.storage.on_servers.relay import Relay
from tests.storage.on_servers.test_sessions import changed, works
from tests.storage.pgbouncer import pgbouncer
from tests.storage.test_storage_contract import RACES
from tests.storages import emptied

pytestmark = pytest.mark.full


@pytest.fixture
def proxied(postgresql: servers.Server) -> Iterator[servers.Server]:
    emptied(postgresql.url)
    proxy = functools.partial(pgbouncer, postgresql)
    with contextmanager(servers.served)("pgbouncer", proxy) as server:
        yield server


def test_proxy_that_lends_a_session_for_each_transaction_changes_nothing(
    postgresql: servers.Server, proxied: servers.Server
) -> None:
    operator = create_engine(postgresql.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    with changed(
        operator,
        bad="ALTER ROLE finch SET DateStyle = 'German, DMY'",
        good="ALTER ROLE finch RESET ALL",
    ):
        works(SQLAlchemyStorage(proxied.url))


@pytest.mark.parametrize("behind", [True, False], ids=["proxied", "direct"])
def test_only_what_is_run_alone_and_directly_is_prepared_and_sets_the_session(
    postgresql: servers.Server, proxied: servers.Server, behind: bool
) -> None:
    storage = SQLAlchemyStorage(proxied.url if behind else postgresql.url)
    for i in range(12):
        storage.claim(an_attempt(f"{i}"))
        storage.attempt(key_of(f"{i}"))

    def left(connection: Connection) -> list[object]:
        prepared = "SELECT count(*), current_setting('lock_timeout') FROM pg_prepared_statements"
        return [*connection.exec_driver_sql(prepared).one()]

    assert storage._database._run(Turn(database=storage._database, alone=left)) == (
        [0, "0"] if behind else [2, "2min"]
    )
    storage.close()


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_races_behind_a_proxy_have_one_winner(
    proxied: servers.Server, race: Callable[..., None]
) -> None:
    storage = SQLAlchemyStorage(proxied.url)

    race(StorageContract(), storage)

    storage.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fresh", [True, False], ids=["new session", "session of the pool"])
@pytest.mark.parametrize("call", ["check", "claim", "attempt"])
def test_proxy_without_a_free_session_is_waited_for_no_longer_than_the_driver(
    proxied: servers.Server, monkeypatch: pytest.MonkeyPatch, call: str, fresh: bool
) -> None:
    """The proxy itself lets its clients wait without end."""
    storage = SQLAlchemyStorage(proxied.url)
    storage.claim(an_attempt("before"))
    if fresh:
        storage.close()
    holder = create_engine(proxied.url, poolclass=NullPool)
    calls: dict[str, Callable[[], object]] = {
        "check": storage.check,
        "claim": lambda: storage.claim(an_attempt()),
        "attempt": lambda: storage.attempt(key_of("before")),
    }

    with holder.connect() as held:
        # The transaction keeps the proxy's only session.
        held.execute(text("SELECT 1"))
        with pytest.raises(StorageUnavailable):
            calls[call]()

    wait_for_databases(PATIENCE_SECONDS, put=monkeypatch.setattr)
    assert storage.attempt(key_of("before")) == an_attempt("before")
    storage.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["claim", "attempt"])
def test_pool_of_the_application_is_waited_for_no_longer_than_our_own(url: str, call: str) -> None:
    engine = create_engine(url, pool_size=1, max_overflow=1, pool_timeout=3600)
    storage = SQLAlchemyStorage(engine)
    storage.claim(an_attempt("before"))

    with engine.connect(), engine.connect(), pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt()) if call == "claim" else storage.attempt(key_of("before"))

    assert refused.value.reason == "busy"
    assert storage.attempt(key_of("before")) == an_attempt("before")
    engine.dispose()


def test_pool_of_the_application_that_is_given_back_in_time_is_used(url: str) -> None:
    engine = create_engine(url, pool_size=1, max_overflow=0)
    storage = SQLAlchemyStorage(engine)
    storage.check()

    won = all_at_once(lambda i: storage.claim(an_attempt(f"{i}")), range(8))

    assert won == [None] * 8
    engine.dispose()


@pytest.mark.usefixtures("usually_patient")
def test_server_that_is_stopped_is_given_up(
    postgresql: servers.Server, proxied: servers.Server
) -> None:
    """As one whose host acknowledges every packet: no setting of libpq limits that."""
    if not (postgresql.owned and proxied.owned):
        pytest.skip("not our server to stop")
    storage = SQLAlchemyStorage(proxied.url)
    storage.claim(an_attempt("before"))

    with servers.stopped(proxied), pytest.raises(StorageUnavailable):
        storage.claim(an_attempt())

    storage.close()


# A primary that was demoted, and still serves the sessions that it has


@pytest.fixture(scope="module")
def promoted() -> Iterator[servers.Server]:
    with contextmanager(servers.served)("postgresql", servers.postgresql) as server:
        SQLAlchemyStorage(server.url).create_tables()
        yield server


@pytest.fixture
def demote(
    postgresql: servers.Server, promoted: servers.Server
) -> Iterator[tuple[Relay, Callable[[], None]]]:
    """An address of a primary; and what makes it read only, and the address lead elsewhere."""
    relay = Relay(emptied(postgresql.url), chance=random.Random())
    emptied(promoted.url)
    operator = create_engine(postgresql.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with ExitStack() as stack:

        def demote() -> None:
            stack.enter_context(
                configured(operator, name="default_transaction_read_only", value="on")
            )
            relay.lead_to(promoted.url)

        yield relay, demote


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_t46_first_write_to_a_former_primary_leaves_it(
    demote: tuple[Relay, Callable[[], None]], shared: bool
) -> None:
    relay, demoted = demote
    engine = create_engine(relay.url, pool_size=8)
    storage = SQLAlchemyStorage(engine if shared else relay.url)
    all_at_once(lambda i: storage.claim(an_attempt(f"{i}")), range(8))
    demoted()

    won = storage.claim(an_attempt())

    assert won is None
    assert [storage.attempt(key_of("code")) for _ in range(20)] == [an_attempt()] * 20
    for each in (storage, engine):
        getattr(each, "close", engine.dispose)()
    relay.close()


def test_read_by_a_session_of_some_age_asks_for_the_address_again(
    demote: tuple[Relay, Callable[[], None]], promoted: servers.Server, monkeypatch: Any
) -> None:
    relay, demoted = demote
    assert SQLAlchemyStorage(relay.url)._database.dialect.session_seconds() == 60
    monkeypatch.setattr(dialects, "SESSION_SECONDS", 0)
    storage = SQLAlchemyStorage(relay.url)
    storage.claim(an_attempt())
    demoted()

    new = SQLAlchemyStorage(promoted.url)
    new.claim(an_attempt(attempt_id="on the new primary"))

    found = storage.attempt(key_of("code"))
    assert found is not None
    assert found.attempt_id == "on the new primary"
    for each in (storage, new):
        each.close()
    relay.close()
