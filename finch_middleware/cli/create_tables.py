"""``finch-middleware create-tables``: creates the tables in a database."""

from __future__ import annotations

from typing import Any

import click

from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import app_option, load_component, without_password
from finch_middleware.config.reading import read_some
from finch_middleware.storage.open import open_storage
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
    given: dict[str, Any] = {"schema": schema, "table_prefix": table_prefix}
    names = {option: value for option, value in given.items() if value is not None}
    if application is not None:
        if names:
            raise CommandError("--schema and --table-prefix have no effect with --app")
        name = f"the storage of {application}"
        storage = load_component(application).storage
    elif url:
        read_some({"storage": url}, ["storage"])
        name = without_password(url)
        if names and url.startswith(_NOT_SQL):
            raise CommandError(f"{name} has no tables: --schema and --table-prefix are for SQL")
        storage = SQLAlchemyStorage(url, **names) if names else open_storage(url)
    else:
        raise CommandError("no storage is given: pass --storage or --app, or set FINCH_STORAGE_URL")
    if not storage.create_tables():
        click.echo(f"{name} needs no tables. Nothing was changed.")
        return
    # The check writes and reads: it finds a missing right or column now, not in production.
    storage.check()
    metadata = getattr(storage, "metadata", None)
    tables = ", ".join(sorted(metadata.tables)) if metadata is not None else "its tables exist"
    click.echo(f"{name} is ready: {tables}.")
