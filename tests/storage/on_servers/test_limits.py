"""How a server must be set up, and how long anything is waited for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of
from tests.storage import servers
from tests.storage.on_servers.conftest import configured, on
from tests.storage.on_servers.test_sessions import changed


def test_server_is_described_by_its_version_and_settings(url: str) -> None:
    storage = SQLAlchemyStorage(url)

    described = storage.describe()

    version, *settings = described
    assert version.split()[0] == on(url, {"postgresql": "PostgreSQL", "mysql": "MySQL"})
    assert (
        on(url, {"postgresql": "fsync on", "mysql": "innodb_flush_log_at_trx_commit 1"}) in settings
    )
    assert settings[-3:] == ["finch_attempts", "finch_connections", "finch_events"]
    storage.close()


def test_two_durable_commits_a_callback(url: str) -> None:
    engine = create_engine(url)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(str(call[2])))

    storage.claim(an_attempt(flow_hash=key_of("flow")))
    storage.settle(
        an_attempt(flow_hash=key_of("flow")).settled(AttemptState.STORED, at=NOON), a_connection()
    )

    # MySQL commits the one statement of a claim without being asked to.
    commits = [each.endswith("COMMIT") for each in statements]
    assert sum(commits) == on(url, {"postgresql": 2, "mysql": 1})
    assert sum(each.startswith(("INSERT", "UPDATE")) for each in statements) == 3
    engine.dispose()


#: What may lose a commit.
_VOLATILE: dict[str, list[Callable[[Engine], AbstractContextManager[None]]]] = {
    "postgresql": [
        partial(configured, name="fsync", value="off"),
        *(
            partial(changed, bad=f"{table} SET UNLOGGED", good=f"{table} SET LOGGED")
            for table in ("ALTER TABLE finch_attempts", "ALTER TABLE finch_connections")
        ),
    ],
    "mysql": [
        partial(
            changed,
            bad="SET GLOBAL innodb_flush_log_at_trx_commit = 2",
            good="SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        )
    ],
}


@pytest.mark.parametrize("at", range(3))
def test_server_that_may_lose_a_commit_is_refused_or_accepted(
    url: str, operator: Engine, at: int
) -> None:
    settings = _VOLATILE[operator.name]

    with settings[at % len(settings)](operator):
        refused = _refused(url)
        accepting = [
            SQLAlchemyStorage(url, accept_data_loss=True),
            SQLAlchemyStorage(f"{url}&accept_data_loss=true"),
        ]
        for storage in accepting:
            storage.check()
            storage.close()

    assert "may lose a committed token" in refused
    assert "?accept_data_loss=true in the URL, or SQLAlchemyStorage(..., acc" in refused


def _refused(url: str) -> str:
    storage = SQLAlchemyStorage(f"{url}&accept_data_loss=false")
    with pytest.raises(SchemaMismatch) as mismatch:
        storage.check()
    storage.close()
    return str(mismatch.value)


@pytest.mark.full
def test_binary_log_that_is_not_synced_is_refused() -> None:
    unsynced = partial(servers.mysql, options=["--log-bin", "--sync-binlog=0"])
    with contextmanager(servers.served)("mysql_unsynced", unsynced) as server:
        storage = SQLAlchemyStorage(server.url)
        storage.create_tables()

        with pytest.raises(SchemaMismatch, match="set sync_binlog = 1; or accept"):
            storage.check()

        storage.close()


def test_commits_are_waited_for_where_the_server_does_not(postgresql_url: str) -> None:
    url = postgresql_url + "&options=-csynchronous_commit%3Doff"
    storage = SQLAlchemyStorage(url)

    inside = storage._database.write(
        lambda db: db.execute(text("SHOW synchronous_commit")).scalar_one()
    )

    assert inside == "on"


def test_limits_end_with_the_transaction(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url, pool_size=1, max_overflow=0)
    storage = SQLAlchemyStorage(engine)
    storage.claim(an_attempt())
    storage.attempt(key_of("code"))

    with engine.connect() as connection:
        limit = connection.execute(text("SHOW statement_timeout")).scalar_one()

    assert limit == "0"
    engine.dispose()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["claim", "attempt"])
def test_engine_of_an_application_waits_no_longer_and_keeps_its_own_patience(
    mysql_url: str, call: str
) -> None:
    engine = create_engine(mysql_url, pool_size=1, max_overflow=0)
    # Longer than the test may take.
    hours = "innodb_lock_wait_timeout=7700, lock_wait_timeout=7800, max_statement_time=7900"
    with engine.connect() as connection:
        connection.execute(text(f"SET SESSION {hours}"))
    storage = SQLAlchemyStorage(engine)
    storage.check()
    other = create_engine(mysql_url, poolclass=NullPool)

    with other.connect() as holder:
        holder.execute(text("LOCK TABLES finch_attempts WRITE"))
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt()) if call == "claim" else storage.attempt(key_of("code"))

    assert refused.value.reason == "busy"
    # What failed has closed its session.
    assert _limits_of(engine) == _limits_of(other)
    engine.dispose()


def _limits_of(engine: Engine) -> tuple[float, ...]:
    limits = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@max_statement_time"
    with engine.connect() as connection:
        return tuple(connection.execute(text(limits)).one())


@pytest.mark.usefixtures("usually_patient")
def test_limits_of_an_application_s_session_are_given_back_after_a_transaction(
    mysql_url: str,
) -> None:
    engine = create_engine(mysql_url, pool_size=1, max_overflow=0)
    before = _limits_of(engine)
    storage = SQLAlchemyStorage(engine)

    storage.claim(an_attempt())
    within = storage._database.write(
        lambda db: tuple(db.execute(text("SELECT @@lock_wait_timeout, @@max_statement_time")).one())
    )
    storage.create_tables()

    assert within == (3, 3)
    assert _limits_of(engine) == before
    engine.dispose()


@pytest.mark.usefixtures("usually_patient")
def test_session_that_ends_when_it_is_given_back_does_not_take_the_answer_with_it(
    mysql_url: str,
) -> None:
    engine = create_engine(mysql_url, pool_size=1)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    before = _session_of(engine)

    @event.listens_for(engine, "before_cursor_execute")
    def end(*call: object) -> None:
        statement = str(call[2])
        if statement.startswith("SET SESSION") and "lock_wait_timeout = 3" not in statement:
            raise OperationalError("", None, ConnectionError())

    won = storage.claim(an_attempt()) is None

    assert won
    assert _session_of(engine) != before
    engine.dispose()


def _session_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT connection_id()")).scalar_one())


def test_what_was_prepared_is_prepared_again_when_a_column_gets_another_type(
    postgresql_url: str,
) -> None:
    storage = SQLAlchemyStorage(postgresql_url)
    storage.claim(an_attempt())
    found = [storage.attempt(key_of("code"))]
    somebody = create_engine(postgresql_url, poolclass=NullPool)
    for kind in ("varchar(99)", "text"):  # the second as it was, for the tests that follow
        with somebody.begin() as connection:
            connection.execute(text(f"ALTER TABLE finch_attempts ALTER reference TYPE {kind}"))
        found.append(storage.attempt(key_of("code")))

    assert found == [an_attempt()] * 3
    storage.close()


@pytest.mark.usefixtures("usually_patient")
def test_a_vanished_host_is_noticed_by_what_it_does_not_acknowledge(postgresql_url: str) -> None:
    storage = SQLAlchemyStorage(postgresql_url)
    storage.check()

    with storage._database._engine.connect() as connection:
        given = connection.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's

    assert given["tcp_user_timeout"] == "3000"
    storage.close()


def test_pool_of_an_application_stays_open_when_the_storage_is_closed(url: str) -> None:
    engine = create_engine(url, pool_size=1)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    pool = engine.pool

    storage.close()

    assert engine.pool is pool
    assert pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool
    engine.dispose()
