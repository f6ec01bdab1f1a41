"""``finch-middleware create-tables``: creates the tables in a database."""

from __future__ import annotations

from typing import Any

import click

from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import (
    app_option,
    load_component,
    without_password,
)
from finch_middleware.config.reading import check_option
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

_NOT_SQL = ("memory:", "redis:", "rediss:", "unix:")


@click.command()
@click.option(
    "--storage",
    "url",
    envvar="FINCH_STORAGE_URL",
    show_envvar=True,
    metavar="URL",
    help="The database. If the URL has a password, set the variable instead: other users of this "
    "machine can read a command line.",
)
@click.option("--schema", metavar="NAME", help="The schema= of your SQLAlchemyStorage.")
@click.option("--table-prefix", metavar="TEXT", help="The table_prefix= of your SQLAlchemyStorage.")
@app_option
def command(
    url: str | None, schema: str | None, table_prefix: str | None, application: str | None
) -> None:
    """
    Create the tables that are missing.

    It changes no existing table, so you can run it again. Run it before the application's first
    start. Use --app if your application has an Engine, a schema or a table prefix of its own.
    """
    names = {
        option: value
        for option, value in {"schema": schema, "table_prefix": table_prefix}.items()
        if value is not None
    }
    if application is not None and names:
        raise CommandError(
            "--schema and --table-prefix have no effect with --app, which has its own"
        )
    if application is not None:
        _make(load_component(application).storage, name=f"the storage of {application}")
        return
    if not url:
        raise CommandError("no storage is given: pass --storage or --app, or set FINCH_STORAGE_URL")
    _require_known(url)
    _make(_storage_of(url, names), name=without_password(url))


def _storage_of(url: str, names: dict[str, Any]) -> Storage:
    if not names:
        return open_storage(url)
    if url.startswith(_NOT_SQL):
        raise CommandError(
            f"{without_password(url)} has no tables: --schema and --table-prefix are for SQL"
        )
    return SQLAlchemyStorage(url, **names)


def _make(storage: Storage, *, name: str) -> None:
    if not storage.create_tables():
        click.echo(f"{name} needs no tables. Nothing was changed.")
        return
    # The check writes and reads: it finds a missing right or column now, not in production.
    storage.check()
    click.echo(f"{name} is ready: {_tables_of(storage)}.")


def _require_known(url: str) -> None:
    """
    Return if this installation can open *url*.

    Raises:
        ConfigurationError: It cannot; the message states how to fix that.
    """
    check_option("storage", url)


def _tables_of(storage: object) -> str:
    metadata = getattr(storage, "metadata", None)
    return ", ".join(sorted(metadata.tables)) if metadata is not None else "its tables exist"
