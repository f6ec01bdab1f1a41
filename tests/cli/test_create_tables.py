from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.cli import main
from finch_middleware.cli.deployment import without_password
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import SchemaMismatch
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from tests.cli.running import run
from tests.storage import servers


@pytest.fixture(scope="module")
def postgresql() -> Iterator[servers.Server]:
    yield from servers.served("postgresql", servers.postgresql)


def tables_of(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def test_the_tables_are_there_and_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/finch.db"
    result = CliRunner().invoke(main, ["create-tables", "--storage", url])

    assert result.exit_code == 0
    assert {"finch_attempts", "finch_connections", "finch_events"} <= tables_of(
        tmp_path / "finch.db"
    )
    assert result.stdout == (
        f"sqlite:///{tmp_path}/finch.db is ready: "
        "finch_attempts, finch_connections, finch_events.\n"
    )


def test_running_it_twice_keeps_what_is_stored(tmp_path: Path) -> None:
    environ = {"FINCH_STORAGE_URL": f"sqlite:///{tmp_path}/finch.db"}
    CliRunner(env=environ).invoke(main, ["create-tables"])
    with closing(sqlite3.connect(tmp_path / "finch.db")) as connection, connection:
        connection.execute("CREATE TABLE of_the_application (name TEXT)")

    result = CliRunner(env=environ).invoke(main, ["create-tables"])

    assert result.exit_code == 0
    assert "of_the_application" in tables_of(tmp_path / "finch.db")


@pytest.mark.full
def test_a_server_is_usable_once_its_tables_are_made(postgresql: servers.Server) -> None:
    if not postgresql.owned:
        pytest.skip("somebody else's server may have the tables already")
    before = run("demo", "--storage", postgresql.url)

    made = run("create-tables", FINCH_STORAGE_URL=postgresql.url)

    after = run("demo", "--storage", postgresql.url)
    assert (before.returncode, made.returncode, after.returncode) == (2, 0, 0)
    assert "finch-middleware create-tables" in before.stderr
    assert "the columns above, application.log" in after.stdout


def test_a_prefix_of_its_own_is_named_in_the_refusal_and_by_the_option(
    postgresql: servers.Server,
) -> None:
    storage = SQLAlchemyStorage(postgresql.url, schema="hr", table_prefix="payroll_")
    engine = create_engine(postgresql.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA hr"))
    with pytest.raises(SchemaMismatch) as refused:
        storage.check()
    command = re.findall("`finch-middleware (.+)`", str(refused.value))[0].split()

    result = CliRunner().invoke(main, [*command, "--storage", postgresql.url])

    assert result.exit_code == 0, result.output
    assert "hr.payroll_attempts, hr.payroll_connections, hr.payroll_events" in result.stdout
    storage.check()
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA hr CASCADE"))
    storage.close()


_APPLICATION = """
from sqlalchemy import create_engine
from finch_middleware import FinchConnect
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

finch = FinchConnect(
    client_id="client", client_secret="s3cret", products=["company"], spool=None,
    redirect_uri="https://app.test/finch/callback", key={key!r},
    storage=SQLAlchemyStorage(create_engine("sqlite:///{database}"), table_prefix="app_"),
)
"""


def test_an_application_s_own_storage_makes_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    application = _APPLICATION.format(key=new_key("k1"), database=database)
    (tmp_path / "theirs.py").write_text(application)

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FINCH_STORAGE_URL", "sqlite:////no/such/folder/finch.db")
    result = CliRunner().invoke(main, ["create-tables", "--app", "theirs:finch"])

    assert result.exit_code == 0, result.stderr
    assert (
        result.stdout
        == "the storage of theirs:finch is ready: app_attempts, app_connections, app_events.\n"
    )
    assert {"app_attempts", "app_connections", "app_events"} <= tables_of(database)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--app", "theirs:finch", "--schema", "hr"), "have no effect with --app"),
        (("--storage", "memory://", "--table-prefix", "app_"), "memory:// has no tables"),
    ],
)
def test_names_of_tables_go_with_a_database_s_url_alone(given: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["create-tables", *given])

    assert result.exit_code == 2
    assert said in result.stderr


def test_memory_needs_no_tables() -> None:
    result = CliRunner().invoke(main, ["create-tables", "--storage", "memory://"])

    assert result.exit_code == 0
    assert result.stdout == "memory:// needs no tables. Nothing was changed.\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("", "FINCH_STORAGE_URL", id="no storage named"),
        pytest.param("oracle://scott:tiger@db/x", "unknown scheme 'oracle'", id="unknown"),
        pytest.param(
            "sqlite:////no/such/tiger.db", "the folder /no/such does not exist", id="no folder"
        ),
        pytest.param("sqlite://", "memory://", id="nothing kept"),
    ],
)
def test_what_cannot_be_done_is_one_text_without_traceback(url: str, said: str) -> None:
    result = CliRunner().invoke(main, ["create-tables", "--storage", url])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "tiger@" not in result.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///finch.db", "sqlite:///finch.db"),
        ("sqlite:////var/lib/finch.db", "sqlite:////var/lib/finch.db"),
        ("postgresql+psycopg://db:5432/app", "postgresql+psycopg://db:5432/app"),
        ("postgresql+psycopg://me:tiger@db/app", "postgresql+psycopg://me@db/app"),
        ("mysql+pymysql://me:ti@ger@db/app", "mysql+pymysql://me@db/app"),
        ("postgresql+psycopg://db/app?password=tiger", "postgresql+psycopg://db/app"),
        ("postgresql+psycopg://me:tiger@[db/app", "postgresql+psycopg://..."),
    ],
)
def test_a_shown_url_holds_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
