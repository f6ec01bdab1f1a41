"""``finch-middleware create-tables``: the tables of a database, made or upgraded."""

from __future__ import annotations

import click

from finch_middleware.assembly import storage_of
from finch_middleware.cli import Fault
from finch_middleware.cli.deployment import without_password
from finch_middleware.option_reader import OptionReader
from finch_middleware.storage import Storage


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
def command(url: str | None) -> None:
    """
    Make the tables that are missing and add the columns that an older version did not have.

    Nothing is ever dropped or changed; running it twice does no harm. Run it before the
    application's first start and after an upgrade.
    """
    if not url:
        raise Fault("no storage is named: pass --storage URL or set FINCH_STORAGE_URL")
    _require_known(url)
    storage = storage_of(url)
    make = getattr(storage, "create_tables", None)
    if make is None:
        click.echo(f"{without_password(url)} needs no tables: nothing was done.")
        return
    make()
    # What a check finds is worth more than our belief: writable, durable, every column there.
    storage.check()
    click.echo(f"{without_password(url)} is ready: {_tables_of(storage)}.")


def _require_known(url: str) -> None:
    """
    Return where *url* names a storage that this installation can open.

    Raises:
        ConfigurationError: It does not; the message names the mend.
    """
    reader = OptionReader({"storage": url})
    reader.storage(Storage)
    reader.finish(known={"storage"})


def _tables_of(storage: object) -> str:
    metadata = getattr(storage, "metadata", None)
    return ", ".join(sorted(metadata.tables)) if metadata is not None else "its tables are there"
