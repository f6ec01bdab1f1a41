"""What the SQL storage does when a database server is away, slow, read-only or set up badly."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import AttemptState
from finch_middleware.storage import dialects
from finch_middleware.storage.sqlalchemy import SQLAlchemyStorage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    an_attempt,
    key_of,
)
from tests.storage.servers import Server


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def url(server: Server, make_empty: Callable[[str], str]) -> str:
    """A database with our tables, empty."""
    return make_empty(server.url)


@pytest.fixture
def operator(server: Server) -> Iterator[Engine]:
    """Somebody else in the same database."""
    engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def prefix(operator: Engine) -> Iterator[str]:
    """Names of tables that do not exist, and will not when the test is over."""
    prefix = "elsewhere_"
    yield prefix
    with operator.connect() as connection:
        for table in ("attempts", "connections"):
            connection.execute(text(f"DROP TABLE IF EXISTS {prefix}{table}"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "PATIENCE_SECONDS", 0.5)


def _on(url: str, of: dict[str, str]) -> str:
    return of[url.split("+")[0]]


# Tables


def test_missing_tables_are_reported_with_the_mend(url: str, prefix: str) -> None:
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match="finch-middleware create-tables"):
        storage.check()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())

    assert refused.value.reason == "schema_mismatch"


def test_tables_made_meanwhile_are_found(url: str, prefix: str) -> None:
    storage = SQLAlchemyStorage(url, table_prefix=prefix)
    with pytest.raises(SchemaMismatch):
        storage.check()

    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()

    storage.check()
    assert storage.claim(an_attempt()) is None


def test_tables_are_made_once_by_many(url: str, prefix: str) -> None:
    storages = [SQLAlchemyStorage(url, table_prefix=prefix) for _ in range(4)]

    all_at_once(lambda storage: storage.create_tables(), storages)

    storages[0].check()


def test_older_tables_get_the_missing_columns(url: str, prefix: str, operator: Engine) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    SQLAlchemyStorage(url, table_prefix=prefix).claim(an_attempt())
    with operator.connect() as connection:
        connection.execute(text(f"ALTER TABLE {prefix}attempts DROP COLUMN request_id"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match="request_id"):
        storage.check()
    storage.create_tables()

    assert storage.attempt(key_of("code")) == an_attempt()
    assert storage.claim(an_attempt("other", request_id="request")) is None


@pytest.mark.parametrize("lost", ["index", "column"])
def test_two_codes_of_a_flow_never_win_where_its_index_is_lost(
    url: str, prefix: str, operator: Engine, lost: str
) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    attempts, name = f"{prefix}attempts", f"{prefix}attempts_of_flow"
    of_table = f" ON {attempts}" if url.startswith("mysql") else ""
    with operator.connect() as connection:
        connection.execute(text(f"DROP INDEX {name}{of_table}"))
        if lost == "column":
            connection.execute(text(f"ALTER TABLE {attempts} DROP COLUMN flow_key"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match=r"flow.*finch-middleware create-tables"):
        storage.check()
    storage.create_tables()

    assert storage.claim(an_attempt(flow_key=key_of("flow"))) is None
    assert storage.claim(an_attempt("other", flow_key=key_of("flow"))) is not None
    storage.close()


def test_table_without_its_primary_key_is_refused(url: str, prefix: str, operator: Engine) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    drop = {
        "postgresql": f"DROP CONSTRAINT {prefix}attempts_pkey",
        "mysql": "DROP PRIMARY KEY",
    }
    with operator.connect() as connection:
        connection.execute(text(f"ALTER TABLE {prefix}attempts {_on(url, drop)}"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match=r"primary key \(code_key\)"):
        storage.check()

    storage.close()


def test_table_without_transactions_is_refused(
    mysql: Server, make_empty: Callable[[str], str]
) -> None:
    storage = SQLAlchemyStorage(make_empty(mysql.url), table_prefix="myisam_")
    storage.create_tables()
    engine = create_engine(mysql.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER TABLE myisam_connections ENGINE=Aria"))

    with pytest.raises(SchemaMismatch, match="ENGINE=InnoDB"):
        storage.check()

    storage.metadata.drop_all(engine)
    storage.close()


def test_table_of_another_program_is_refused(url: str, prefix: str, operator: Engine) -> None:
    with operator.connect() as connection:
        connection.execute(text(f"CREATE TABLE {prefix}attempts (id INTEGER)"))

    with pytest.raises(SchemaMismatch, match="table_prefix"):
        SQLAlchemyStorage(url, table_prefix=prefix).create_tables()


def test_tables_may_live_in_a_schema_of_their_own(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    url = make_empty(postgresql.url)
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    storage = SQLAlchemyStorage(url, schema="payroll")
    with engine.connect() as connection:
        connection.execute(text("CREATE SCHEMA payroll"))

    storage.create_tables()
    won = storage.claim(an_attempt()) is None

    assert won
    assert SQLAlchemyStorage(url).attempt(key_of("code")) is None
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA payroll CASCADE"))


@pytest.mark.usefixtures("impatient")
def test_making_tables_behind_somebody_who_makes_them_is_busy(url: str, operator: Engine) -> None:
    lock = {
        "postgresql": f"SELECT pg_advisory_lock({0x66696E63685F6D69})",
        "mysql": "SELECT GET_LOCK('finch_middleware', 0)",
    }
    with operator.connect() as connection:
        connection.execute(text(_on(url, lock)))

        with pytest.raises(StorageUnavailable) as refused:
            SQLAlchemyStorage(url).create_tables()

    assert refused.value.reason == "busy"


# Settings


def test_two_durable_commits_a_callback(url: str) -> None:
    engine = create_engine(url)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(str(call[2])))

    storage.claim(an_attempt(flow_key=key_of("flow")))
    storage.settle(
        an_attempt(flow_key=key_of("flow")).settled(AttemptState.STORED, at=NOON), a_connection()
    )

    assert statements.count("COMMIT") == 2
    engine.dispose()


@contextmanager
def _set(operator: Engine, *, bad: list[str], good: list[str]) -> Iterator[None]:
    with operator.connect() as connection:
        for statement in bad:
            connection.execute(text(statement))
        try:
            yield
        finally:
            for statement in good:
                connection.execute(text(statement))


def test_server_that_may_lose_a_commit_is_refused(url: str, operator: Engine) -> None:
    bad, good = _on_each(
        url,
        postgresql=("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync"),
        mysql=(
            "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        ),
    )
    with _set(operator, bad=bad, good=good):
        refused = _refused(url)

    assert "may lose a committed token" in refused


def _refused(url: str) -> str:
    # A server that is told to read its settings again does so a little later.
    for _ in range(100):
        try:
            SQLAlchemyStorage(url).check()
        except SchemaMismatch as mismatch:
            return str(mismatch)
    return "it was not refused"


def _on_each(url: str, **statements: tuple[str, str]) -> tuple[list[str], list[str]]:
    bad, good = statements[url.split("+")[0]]
    reload = ["SELECT pg_reload_conf()"] if url.startswith("postgresql") else []
    return [bad, *reload], [good, *reload]


def test_commits_are_waited_for_where_the_server_does_not(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    url = make_empty(postgresql.url) + "&options=-csynchronous_commit%3Doff"
    storage = SQLAlchemyStorage(url)

    inside = storage._database.write(
        lambda db: db.execute(text("SHOW synchronous_commit")).scalar_one()
    )

    assert inside == "on"


def test_limits_end_with_the_transaction(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    engine = create_engine(make_empty(postgresql.url), pool_size=1, max_overflow=0)
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
    mysql: Server, make_empty: Callable[[str], str], call: str
) -> None:
    engine = create_engine(make_empty(mysql.url), pool_size=1, max_overflow=0)
    patient = "SET SESSION innodb_lock_wait_timeout=77, lock_wait_timeout=78, max_statement_time=79"
    with engine.connect() as connection:
        connection.execute(text(patient))
    storage = SQLAlchemyStorage(engine)
    storage.check()
    other = create_engine(mysql.url, poolclass=NullPool)
    began = time.monotonic()

    with other.connect() as holder:
        holder.execute(text("LOCK TABLES finch_attempts WRITE"))
        with pytest.raises(StorageUnavailable) as refused:
            storage.claim(an_attempt()) if call == "claim" else storage.attempt(key_of("code"))

    assert refused.value.reason == "busy"
    assert time.monotonic() - began < 5
    if call == "attempt":
        # A transaction that failed has closed its session; a read has given it back.
        assert _limits_of(engine) == (77, 78, 79)
    engine.dispose()


def _limits_of(engine: Engine) -> tuple[float, ...]:
    limits = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@max_statement_time"
    with engine.connect() as connection:
        return tuple(connection.execute(text(limits)).one())


def test_limits_of_an_application_s_session_are_given_back_after_a_transaction(
    mysql: Server, make_empty: Callable[[str], str]
) -> None:
    engine = create_engine(make_empty(mysql.url), pool_size=1, max_overflow=0)
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


def test_session_that_ends_when_it_is_given_back_does_not_take_the_answer_with_it(
    mysql: Server, make_empty: Callable[[str], str]
) -> None:
    engine = create_engine(make_empty(mysql.url), pool_size=1)
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


def test_nothing_is_prepared_in_a_session_that_a_proxy_may_lend_to_others(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    storage = SQLAlchemyStorage(make_empty(postgresql.url))

    for i in range(12):
        storage.claim(an_attempt(f"{i}"))
        storage.attempt(key_of(f"{i}"))

    with storage._database._engine.connect() as connection:
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        assert prepared.scalar_one() == 0
    storage.close()


def test_a_vanished_host_is_noticed_by_what_it_does_not_acknowledge(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    storage = SQLAlchemyStorage(make_empty(postgresql.url))
    storage.check()

    with storage._database._engine.connect() as connection:
        given = connection.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's

    assert given["tcp_user_timeout"] == "3000"
    storage.close()


def test_pool_of_an_application_stays_open_when_the_storage_is_closed(
    url: str,
) -> None:
    engine = create_engine(url, pool_size=1)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    pool = engine.pool

    storage.close()

    assert engine.pool is pool
    assert pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool
    engine.dispose()


# Faults


@pytest.mark.usefixtures("impatient")
def test_server_that_stands_still_is_given_up(
    mysql: Server, make_empty: Callable[[str], str]
) -> None:
    if mysql._process is None:
        pytest.skip("not our server to stop")
    storage = SQLAlchemyStorage(make_empty(mysql.url))
    storage.check()
    began = time.monotonic()

    mysql._process.send_signal(signal.SIGSTOP)
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt())
    mysql._process.send_signal(signal.SIGCONT)

    assert refused.value.reason == "unavailable"
    assert time.monotonic() - began < 10
    storage.close()
    gc.collect()


@pytest.mark.usefixtures("impatient")
def test_threads_at_the_first_use_do_not_queue_for_one_wait_after_the_other(
    url: str, operator: Engine
) -> None:
    storage = SQLAlchemyStorage(url)
    began = time.monotonic()

    def reason_of(_: int) -> str:
        with pytest.raises(StorageUnavailable) as refused:
            storage.check()
        return refused.value.reason

    def wait(_: object) -> None:
        time.sleep(1.5)
        raise OperationalError("", None, ConnectionError())

    storage._database._preparation = wait
    reasons = all_at_once(reason_of, range(6))

    assert set(reasons) == {"busy", "unavailable"}
    assert time.monotonic() - began < 4
    storage.close()


def test_read_only_server_fails_the_check(url: str) -> None:
    engine = create_engine(url)
    told = {
        "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }

    @event.listens_for(engine, "connect")
    def make_read_only(opened: object, _: object) -> None:
        with opened.cursor() as cursor:  # type: ignore[attr-defined]  # a driver's connection
            cursor.execute(_on(url, told))
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


def test_connections_that_the_server_ended_are_replaced(url: str, operator: Engine) -> None:
    storage = SQLAlchemyStorage(url)
    storage.claim(an_attempt())
    end = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "mysql": "SELECT id FROM information_schema.processlist"
        " WHERE id <> connection_id() AND user = 'root'",
    }

    with operator.connect() as connection:
        for row in connection.execute(text(_on(url, end))).all():
            if url.startswith("mysql"):
                connection.execute(text(f"KILL {row[0]}"))

    assert storage.claim(an_attempt(attempt_id="second")) == an_attempt()


# PyMySQL leaves its socket unclosed where nobody listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_server_that_went_away_is_unavailable_until_it_is_back(url: str, server: Server) -> None:
    if not server.owned:
        pytest.skip("not our server to stop")
    storage = SQLAlchemyStorage(url)
    storage.claim(an_attempt())

    server.stop()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt("other"))
    server.start()
    gc.collect()

    assert refused.value.reason == "unavailable"
    assert refused.value.__context__ is None
    assert storage.attempt(key_of("code")) == an_attempt()
    assert storage.claim(an_attempt("other")) is None


def test_commit_of_unknown_outcome_is_not_confirmed_and_can_be_read_again(url: str) -> None:
    engine = create_engine(url)
    storage = SQLAlchemyStorage(engine)
    storage.check()
    lost = [True]

    @event.listens_for(engine, "after_cursor_execute")
    def lose_the_answer(*call: object) -> None:
        if call[2] == "COMMIT" and lost.pop():
            lost.append(False)
            raise OperationalError("", None, ConnectionError())

    with pytest.raises(StorageUnavailable):
        storage.claim(an_attempt())

    assert storage.attempt(key_of("code")) == an_attempt()
    engine.dispose()


def test_text_that_the_database_refuses_is_a_storage_fault(
    postgresql: Server, make_empty: Callable[[str], str]
) -> None:
    storage = SQLAlchemyStorage(make_empty(postgresql.url))

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
