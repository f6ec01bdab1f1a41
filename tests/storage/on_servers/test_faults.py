"""The SQL storage while a database server is unavailable, slow or read-only."""

from __future__ import annotations

import gc

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import a_connection, all_at_once, an_attempt, key_of
from tests.storage.on_servers.conftest import on
from tests.storage.servers import Server, stopped
from tests.storages import emptied
from tests.waiting import wait_until


@pytest.mark.usefixtures("impatient")
def test_server_that_stops_responding_is_given_up(mysql: Server) -> None:
    if not mysql.owned:
        pytest.skip("not our server to stop")
    storage = SQLAlchemyStorage(emptied(mysql.url))
    storage.check()

    with stopped(mysql), pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())

    assert refused.value.reason == "unavailable"
    storage.close()
    gc.collect()


@pytest.mark.usefixtures("impatient")
def test_threads_at_the_first_use_do_not_queue_for_one_wait_after_the_other(
    url: str, operator: Engine
) -> None:
    storage = SQLAlchemyStorage(url)
    refusals: list[str] = []

    def try_it(_: int) -> None:
        with pytest.raises(StorageUnavailable) as refused:
            storage.check()
        refusals.append(refused.value.reason)

    def wait_for_the_others(_: object) -> None:
        wait_until(lambda: len(refusals) == 5)
        raise OperationalError("", None, ConnectionError())

    storage._database._preparation = wait_for_the_others
    all_at_once(try_it, range(6))

    assert refusals == ["busy"] * 5 + ["unavailable"]
    storage.close()


def test_read_only_server_fails_the_check(url: str) -> None:
    engine = create_engine(url)
    statements = {
        "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }

    @event.listens_for(engine, "connect")
    def make_read_only(opened: object, _: object) -> None:
        with opened.cursor() as cursor:  # type: ignore[attr-defined]  # a driver's connection
            cursor.execute(on(url, statements))
        opened.commit()  # type: ignore[attr-defined]  # a driver's connection

    with pytest.raises(StorageUnavailable) as refused:
        SQLAlchemyStorage(engine).check()

    assert refused.value.reason == "read_only"
    engine.dispose()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["claim", "attempt"])
def test_locked_table_is_busy_and_soon(url: str, operator: Engine, call: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.check()
    lock = {
        "postgresql": ["BEGIN", "LOCK TABLE finch_attempts IN ACCESS EXCLUSIVE MODE"],
        "mysql": ["LOCK TABLES finch_attempts WRITE"],
    }
    with operator.connect() as connection:
        for statement in lock[url.split("+")[0]]:
            connection.execute(text(statement))

        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt()) if call == "claim" else storage.attempt(key_of("code"))

    assert refused.value.reason == "busy"
    assert storage.claim(an_attempt()) is None


def test_server_that_went_away_is_unavailable_until_it_is_back(url: str, server: Server) -> None:
    if not server.owned:
        pytest.skip("not our server to stop")
    storage = SQLAlchemyStorage(url)
    storage.claim(an_attempt())

    server.stop()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt("other"))
    server.start()

    assert refused.value.reason == "unavailable"
    assert refused.value.__context__ is None
    assert storage.attempt(key_of("code")) == an_attempt()
    assert storage.claim(an_attempt("other")) is None


def test_text_that_the_database_refuses_is_a_storage_fault(postgresql_url: str) -> None:
    storage = SQLAlchemyStorage(postgresql_url)

    with pytest.raises(StorageUnavailable) as refused:
        storage.settle(an_attempt(), a_connection(status="NUL \x00 canary"))

    assert refused.value.reason == "unstorable"
    assert refused.value.__context__ is None


def test_row_that_breaks_another_rule_is_no_lost_race(url: str) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        SQLAlchemyStorage(url).claim(an_attempt(client_id=None))

    assert refused.value.reason == "unavailable"


def test_wrong_password_is_denied(mysql: Server) -> None:
    url = mysql.url.replace("root@", "nobody:canary@")

    with pytest.raises(StorageUnavailable) as refused:
        SQLAlchemyStorage(url).check()

    assert refused.value.reason == "denied"
    assert "canary" not in repr(refused.value)
