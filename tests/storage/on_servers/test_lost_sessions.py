"""Sessions that ended while they were idle, and servers that send rubbish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.storage.sql.write_queue import Turn
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.sample_records import an_attempt, key_of
from tests.fuzz.seeds import seeded
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.site import Browser, Site
from tests.storage.on_servers.relay import Relay


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The application's, as Flask-SQLAlchemy makes it: without a ping."""
    engine = create_engine(url, pool_size=4)
    yield engine
    engine.dispose()


def _fill(storage: SQLAlchemyStorage, more: int = 3) -> None:
    """Four idle sessions, all of which the storage has used."""
    storage._database._run(
        Turn(database=storage._database, alone=lambda _: _fill(storage, more - 1) if more else None)
    )


@pytest.mark.parametrize("call", ["claim", "attempt", "check"])
@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_first_call_after_the_sessions_ended_overnight_succeeds(
    url: str, engine: Engine, cut_connections: Callable[[], None], call: str, shared: bool
) -> None:
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.claim(an_attempt("before"))
    _fill(storage)

    cut_connections()

    if call == "claim":
        assert storage.claim(an_attempt()) is None
    elif call == "attempt":
        assert storage.attempt(key_of("before")) == an_attempt("before")
    else:
        storage.check()
    storage.close()


def test_t46_first_employer_of_the_day_is_connected(
    engine: Engine, cut_connections: Callable[[], None], fake: FakeFinch, tmp_path: Any
) -> None:
    storage = SQLAlchemyStorage(engine)
    with Site(fake, storage=storage, spool=tmp_path / "spool") as site:
        browser = Browser(site)
        _fill(storage)
        cut_connections()
        callback = fake.allow(browser.location())
        _fill(storage)
        cut_connections()

        assert "finch=connected" in browser.get(callback).location


def test_t46_session_that_ends_after_begin_is_not_tried_again(
    engine: Engine, operator: Engine, cut_connections: Callable[[], None]
) -> None:
    storage = SQLAlchemyStorage(engine)
    storage.check()
    tries: list[object] = []

    def work(db: Any) -> None:
        tries.append(db)
        cut_connections()
        storage._sql.claim.count(db, an_attempt().as_row())

    with pytest.raises(StorageUnavailable):
        storage._database.write(work)

    assert len(tries) == 1


@pytest.mark.usefixtures("impatient")
def test_t46_nothing_but_our_own_error_leaves_a_storage_whose_server_sends_rubbish(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(url, chance=seeded())
    storage = SQLAlchemyStorage(relay.url)
    storage.claim(an_attempt())
    other: list[BaseException] = []

    wait_for_databases(PATIENCE_SECONDS, put=monkeypatch.setattr)

    for i in range(15):
        relay.garbles = True
        with monkeypatch.context() as impatient:
            wait_for_databases(1, put=impatient.setattr)
            for call in (
                storage.check,
                lambda: storage.attempt(key_of("code")),
                lambda i=i: storage.claim(an_attempt(f"other-{i}")),
            ):
                try:
                    call()
                except StorageUnavailable as fault:
                    other += [fault.__context__] if fault.__context__ else []
                except BaseException as error:
                    other.append(error)
        relay.garbles = False
        # No other user reads what was left of a response.
        assert storage.attempt(key_of("code")) == an_attempt()

    assert other == []
    storage.close()
    relay.close()
