"""``finch-middleware create-tables``: creates the tables in a database."""

from __future__ import annotations

from typing import Any

import click

from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import of_application, taking_application, without_password
from finch_middleware.config.settings import check_option
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
    help="Other users of this machine can read a command line: set the variable if the URL "
    "holds a password.",
)
@click.option("--schema", metavar="NAME", help="As given to SQLAlchemyStorage.")
@click.option("--table-prefix", metavar="TEXT", help="As given to SQLAlchemyStorage.")
@taking_application
def command(
    url: str | None, schema: str | None, table_prefix: str | None, application: str | None
) -> None:
    """
    Create the tables that are missing.

    It changes no table that exists, and may run twice. Run it before the
    application's first start. With an Engine, a schema or a prefix of its
    own an application is best named with --app: its storage says all that.
    """
    names = {
        option: value
        for option, value in {"schema": schema, "table_prefix": table_prefix}.items()
        if value is not None
    }
    if application is not None and names:
        raise CommandError("--schema and --table-prefix go with --storage: --app brings its own")
    if application is not None:
        _make(of_application(application).storage, name=f"the storage of {application}")
        return
    if not url:
        raise CommandError(
            "no storage is named: pass --storage URL or --app, or set FINCH_STORAGE_URL"
        )
    _require_known(url)
    _make(_storage_of(url, names), name=without_password(url))


def _storage_of(url: str, names: dict[str, Any]) -> Storage:
    if not names:
        return open_storage(url)
    if url.startswith(_NOT_SQL):
        raise CommandError(
            f"{without_password(url)} has no tables: --schema and --table-prefix go elsewhere"
        )
    return SQLAlchemyStorage(url, **names)


def _make(storage: Storage, *, name: str) -> None:
    if not storage.create_tables():
        click.echo(f"{name} needs no tables: nothing was done.")
        return
    # What a check finds is worth more than our belief: writable, durable, every column there.
    storage.check()
    click.echo(f"{name} is ready: {_tables_of(storage)}.")


def _require_known(url: str) -> None:
    """
    Return where *url* names a storage that this installation can open.

    Raises:
        ConfigurationError: It does not; the message names the mend.
    """
    check_option("storage", url)


def _tables_of(storage: object) -> str:
    metadata = getattr(storage, "metadata", None)
    return ", ".join(sorted(metadata.tables)) if metadata is not None else "its tables are there"
