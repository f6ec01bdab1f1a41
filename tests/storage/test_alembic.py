"""Alembic users add our MetaData to theirs: no difference is found, and a migration is ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import an_attempt, key_of
from tests.storage.servers import Server

PREFIX = "of_alembic_"
THEIRS = MetaData()
Table("their_table", THEIRS, Column("id", Integer, primary_key=True))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without any of these tables, then and now."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
    else:
        server: Server = request.getfixturevalue(request.param)
        url = server.url
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    ours = SQLAlchemyStorage(engine, table_prefix=PREFIX).metadata
    for metadata in (ours, THEIRS):
        metadata.drop_all(engine)
    engine.dispose()


def storage_on(engine: Engine, **options: Any) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(engine, table_prefix=PREFIX, **options)


def differences(engine: Engine, *metadata: MetaData, **options: Any) -> list[Any]:
    """What Alembic would write into a migration, of the tables that are meant here."""
    names = {table.name for each in metadata for table in each.tables.values()}

    def include(name: str | None, kind: str, parents: object) -> bool:
        return kind != "table" or name in names

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "target_metadata": list(metadata),
                "include_name": include,
                "compare_type": True,
                "compare_server_default": True,
                **options,
            },
        )
        return list(compare_metadata(context, list(metadata)))  # type: ignore[arg-type]  # Alembic takes a list too


def test_tables_that_we_made_show_no_difference_beside_theirs(engine: Engine) -> None:
    storage = storage_on(engine)
    storage.create_tables()
    THEIRS.create_all(engine)

    found = differences(engine, THEIRS, storage.metadata)

    assert found == []


def test_a_missing_table_and_a_missing_column_are_found(engine: Engine) -> None:
    storage = storage_on(engine)
    storage.create_tables()
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {PREFIX}connections DROP COLUMN status"))
        connection.execute(text(f"DROP TABLE {PREFIX}attempts"))

    found = differences(engine, storage.metadata)

    kinds = {each[0] for each in found}
    assert {"add_table", "add_column"} <= kinds


def test_tables_that_a_migration_made_are_tables_of_ours(engine: Engine) -> None:
    storage = storage_on(engine)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        script = produce_migrations(context, storage.metadata)
        operations = Operations(context)
        for step in script.upgrade_ops.ops if script.upgrade_ops else ():
            if getattr(step, "table_name", "").startswith(PREFIX) and step.__class__.__name__ in (
                "CreateTableOp",
                "CreateIndexOp",
                "ModifyTableOps",
            ):
                for each in getattr(step, "ops", [step]):
                    operations.invoke(each)

    storage.check()
    assert storage.claim(an_attempt(flow_hash=key_of("flow"))) is None
    assert storage.claim(an_attempt("other", flow_hash=key_of("flow"))) == an_attempt(
        flow_hash=key_of("flow")
    )
    assert differences(engine, storage.metadata) == []


def test_a_schema_of_their_own_shows_no_difference(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url, poolclass=NullPool)
    storage = storage_on(engine, schema="of_alembic")
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA of_alembic"))
    storage.create_tables()

    found = differences(engine, storage.metadata, include_schemas=True)

    assert found == []
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA of_alembic CASCADE"))
    engine.dispose()
