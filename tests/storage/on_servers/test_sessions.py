"""What a role, a server or an Engine sets changes nothing of what is stored, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch, StorageFault
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of
from tests.storage.servers import Server

_CUSTOMER = "Zoë 漢字 😀 \\'\""


def works(storage: SQLAlchemyStorage) -> None:
    """A callback finds what it has written."""
    storage.check()
    claimed = an_attempt(flow_hash=key_of("flow"), customer_ids=(_CUSTOMER,))
    two = [a_connection(each, customer_id=_CUSTOMER) for each in ("one", "two")]

    assert storage.claim(claimed) is None
    assert storage.attempt(claimed.code_hash) == claimed
    stored = claimed.settled(AttemptState.STORED, at=NOON)
    assert storage.settle(stored, two[0])
    assert storage.settle(stored, two[1])
    assert storage.claim(claimed) == storage.attempt(claimed.code_hash) == stored
    found = storage.for_customer(_CUSTOMER)
    assert sorted(found, key=lambda each: each.connection_id) == two
    storage.close()


@contextmanager
def changed(operator: Engine, *, bad: str, good: str) -> Iterator[None]:
    with operator.connect() as connection:
        connection.execute(text(bad))
        try:
            yield
        finally:
            connection.execute(text(good))


_ROLES = [
    "DateStyle = 'German, DMY'",
    "DateStyle = 'SQL, MDY'",
    "DateStyle = 'Postgres, DMY'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Kathmandu'",
    "TimeZone = 'FOO-3:17'",
    "client_encoding = 'LATIN1'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "default_transaction_isolation = 'serializable'",
    "transform_null_equals = on",
    "quote_all_identifiers = on",
]


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
@pytest.mark.parametrize("setting", _ROLES)
def test_t44_setting_of_a_postgresql_role_changes_nothing(
    postgresql_url: str, setting: str, shared: bool
) -> None:
    operator = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    operator.connect().close()

    with changed(
        operator, bad=f"ALTER ROLE finch SET {setting}", good="ALTER ROLE finch RESET ALL"
    ):
        engine = create_engine(postgresql_url, pool_size=1)
        works(SQLAlchemyStorage(engine if shared else postgresql_url))

        name = setting.split()[0]
        asked = engine if shared else operator
        with asked.connect() as connection:
            assert connection.execute(text(f"SHOW {name}")).scalar_one()
    for each in (engine, operator):
        each.dispose()


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
@pytest.mark.parametrize(
    "setting",
    [
        *(
            f"sql_mode = '{mode}'"
            for mode in (
                "",
                "ANSI",
                "ORACLE",
                "TRADITIONAL",
                "PAD_CHAR_TO_FULL_LENGTH",
                "NO_BACKSLASH_ESCAPES",
                "ANSI,NO_BACKSLASH_ESCAPES",
                "EMPTY_STRING_IS_NULL",
            )
        ),
        "time_zone = '+05:45'",
        "sql_select_limit = 1",
        "sql_safe_updates = 1",
        "sql_auto_is_null = 1",
        "tx_isolation = 'SERIALIZABLE'",
        "character_set_server = 'latin1'",
        "lc_messages = 'de_DE'",
        "autocommit = 0",
    ],
)
def test_t44_setting_of_a_mysql_server_changes_nothing(
    mysql_url: str, setting: str, shared: bool
) -> None:
    operator = create_engine(mysql_url, isolation_level="AUTOCOMMIT")
    name = setting.split()[0]
    with operator.connect() as connection:
        before = connection.execute(text(f"SELECT @@global.{name}")).scalar_one()
    good = f"SET GLOBAL {name} = {before!r}"

    with changed(operator, bad=f"SET GLOBAL {setting}", good=good):
        engine = create_engine(mysql_url, pool_size=1)
        with engine.connect() as connection:
            own = connection.execute(text(f"SELECT @@{name}")).scalar_one()
        works(SQLAlchemyStorage(engine if shared else mysql_url))

        with engine.connect() as connection:
            assert connection.execute(text(f"SELECT @@{name}")).scalar_one() == own
    for each in (engine, operator):
        each.dispose()


@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_three_byte_characters_of_a_url_are_raised_to_four(mysql_url: str, shared: bool) -> None:
    url = f"{mysql_url}&charset=utf8"
    engine = create_engine(url)

    works(SQLAlchemyStorage(engine if shared else url))

    engine.dispose()


def test_results_that_the_application_does_not_convert_stay_so(mysql_url: str) -> None:
    engine = create_engine(mysql_url, pool_size=1)
    with engine.connect() as connection:
        connection.execute(text("SET SESSION character_set_results = NULL"))

    works(SQLAlchemyStorage(engine))

    with engine.connect() as connection:
        assert connection.execute(text("SELECT @@character_set_results")).scalar_one() is None
    engine.dispose()


def test_engine_that_cannot_send_every_text_is_refused(mysql_url: str) -> None:
    engine = create_engine(f"{mysql_url}&charset=latin1")

    with pytest.raises(StorageFault, match="utf8mb4"):
        SQLAlchemyStorage(engine).check()

    engine.dispose()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("call", ["check", "create_tables"])
def test_t44_postgresql_database_of_another_encoding_is_refused(
    postgresql: Server, encoding: str, call: str
) -> None:
    operator = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    name = f"in_{encoding.lower()}"
    make = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"

    with changed(operator, bad=make, good=f"DROP DATABASE {name} WITH (FORCE)"):
        storage = SQLAlchemyStorage(make_url(postgresql.url).set(database=name))
        with pytest.raises(SchemaMismatch, match=f"encoding {encoding}.*ENCODING 'UTF8'"):
            getattr(storage, call)()
        storage.close()

    operator.dispose()


# What else `check` finds before a person is sent to a payroll login


#: A user without rights, and a database in which no user has rights by default.
_GUESTS = {
    "postgresql": ("CREATE ROLE guest LOGIN", "DROP OWNED BY guest; DROP ROLE guest"),
    "mysql": ("CREATE USER guest@localhost", "DROP USER guest@localhost"),
}


@pytest.mark.parametrize("missing", ["SELECT", "INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize("table", ["finch_attempts", "finch_connections", "finch_events"])
def test_user_who_lacks_a_right_is_refused(
    url: str, operator: Engine, missing: str, table: str
) -> None:
    make, drop = _GUESTS[operator.name]
    database = make_url(url).set(database="rights")
    who = "guest" if operator.name == "postgresql" else "guest@localhost"
    # A session that was closed may end a little later.
    force = " WITH (FORCE)" if operator.name == "postgresql" else ""

    with (
        changed(operator, bad="CREATE DATABASE rights", good=f"DROP DATABASE rights{force}"),
        changed(operator, bad=make, good=drop),
    ):
        maker = SQLAlchemyStorage(database)
        maker.create_tables()
        maker.close()
        owner = create_engine(database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        for each in ("finch_attempts", "finch_connections", "finch_events"):
            rights = {"SELECT", "INSERT", "UPDATE", "DELETE"}
            rights -= {missing} if each == table else set()
            with owner.connect() as connection:
                connection.execute(text(f"GRANT {', '.join(sorted(rights))} ON {each} TO {who}"))
        storage = SQLAlchemyStorage(database.set(username="guest"))
        with pytest.raises(StorageFault, match=r"check the user|has no (table|column)"):
            storage.check()
        storage.close()
        if operator.name == "postgresql":
            with owner.connect() as connection:
                connection.execute(text("DROP OWNED BY guest"))


@pytest.mark.parametrize(
    ("policies", "fault"),
    [
        ([], "check the user"),
        (["FOR INSERT WITH CHECK (true)"], "row level security"),
        (["FOR INSERT WITH CHECK (true)", "FOR SELECT USING (true)"], "."),
    ],
    ids=["none", "only inserts", "no changes"],
)
def test_row_level_security_that_hides_our_rows_is_refused(
    postgresql_url: str, policies: list[str], fault: str
) -> None:
    operator = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with operator.connect() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN"))
        connection.execute(
            text("GRANT ALL ON finch_attempts, finch_connections, finch_events TO guest")
        )
        connection.execute(text("ALTER TABLE finch_attempts ENABLE ROW LEVEL SECURITY"))
        for i, policy in enumerate(policies):
            connection.execute(text(f"CREATE POLICY p{i} ON finch_attempts {policy}"))
    storage = SQLAlchemyStorage(make_url(postgresql_url).set(username="guest"))

    try:
        with pytest.raises(StorageFault, match=fault):
            storage.check()
    finally:
        with operator.connect() as connection:
            for i in range(len(policies)):
                connection.execute(text(f"DROP POLICY p{i} ON finch_attempts"))
            connection.execute(text("ALTER TABLE finch_attempts DISABLE ROW LEVEL SECURITY"))
            connection.execute(text("DROP OWNED BY guest; DROP ROLE guest"))
        storage.close()
        operator.dispose()


def test_the_check_writes_and_removes_a_row_once_a_process(url: str, operator: Engine) -> None:
    engine = create_engine(url)
    storage = SQLAlchemyStorage(engine)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(str(call[2])))

    for _ in range(3):
        storage.check()

    assert sum("INSERT INTO finch_attempts" in each for each in statements) == 1
    assert len(statements) < 60
    with operator.connect() as connection:
        for table in ("finch_attempts", "finch_connections", "finch_events"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
    engine.dispose()
