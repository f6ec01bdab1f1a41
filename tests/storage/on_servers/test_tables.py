"""Tables on a server: a command creates them, and the check reads their columns and indexes."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import all_at_once, an_attempt, key_of
from tests.storage.on_servers.conftest import on


def test_missing_tables_are_reported_with_the_command(url: str, prefix: str) -> None:
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


@pytest.mark.parametrize("lost", ["index", "column"])
def test_table_that_lost_what_a_claim_needs_is_refused(
    url: str, prefix: str, operator: Engine, lost: str
) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    attempts, name = f"{prefix}attempts", f"{prefix}attempts_of_flow"
    of_table = f" ON {attempts}" if url.startswith("mysql") else ""
    with operator.connect() as connection:
        connection.execute(text(f"DROP INDEX {name}{of_table}"))
        if lost == "column":
            connection.execute(text(f"ALTER TABLE {attempts} DROP COLUMN flow_hash"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match=f"{attempts} has no .*flow_hash"):
        storage.check()
    with pytest.raises(StorageUnavailable) as refused:
        storage.claim(an_attempt(flow_hash=key_of("flow")))

    assert refused.value.reason == "schema_mismatch"
    storage.close()


def test_index_that_only_makes_a_search_fast_is_not_asked_for(
    url: str, prefix: str, operator: Engine
) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    of_table = f" ON {prefix}attempts" if url.startswith("mysql") else ""
    with operator.connect() as connection:
        connection.execute(text(f"DROP INDEX {prefix}attempts_pending{of_table}"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    storage.check()

    assert storage.claim(an_attempt()) is None
    storage.close()


def test_table_without_its_primary_key_is_refused(url: str, prefix: str, operator: Engine) -> None:
    SQLAlchemyStorage(url, table_prefix=prefix).create_tables()
    drop = {"postgresql": f"DROP CONSTRAINT {prefix}attempts_pkey", "mysql": "DROP PRIMARY KEY"}
    with operator.connect() as connection:
        connection.execute(text(f"ALTER TABLE {prefix}attempts {on(url, drop)}"))
    storage = SQLAlchemyStorage(url, table_prefix=prefix)

    with pytest.raises(SchemaMismatch, match=r"primary key \(code_hash\)"):
        storage.check()

    storage.close()


def test_table_without_transactions_is_refused(mysql_url: str) -> None:
    storage = SQLAlchemyStorage(mysql_url, table_prefix="myisam_")
    storage.create_tables()
    engine = create_engine(mysql_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
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


def test_tables_may_live_in_a_schema_of_their_own(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    storage = SQLAlchemyStorage(postgresql_url, schema="payroll")
    with engine.connect() as connection:
        connection.execute(text("CREATE SCHEMA payroll"))

    storage.create_tables()
    won = storage.claim(an_attempt()) is None

    assert won
    assert SQLAlchemyStorage(postgresql_url).attempt(key_of("code")) is None
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA payroll CASCADE"))


@pytest.mark.usefixtures("impatient")
def test_making_tables_while_another_process_makes_them_is_busy(url: str, operator: Engine) -> None:
    lock = {
        "postgresql": f"SELECT pg_advisory_lock({0x66696E63685F6D69})",
        "mysql": "SELECT GET_LOCK('finch_middleware', 0)",
    }
    with operator.connect() as connection:
        connection.execute(text(on(url, lock)))

        with pytest.raises(StorageUnavailable) as refused:
            SQLAlchemyStorage(url).create_tables()

    assert refused.value.reason == "busy"
