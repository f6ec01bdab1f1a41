"""``finch-middleware keygen``: a new key, on standard output only."""

from __future__ import annotations

import sys

import click

from finch_middleware.config.reading import read_some
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import ConfigurationError

_ADVICE = """
This is the only copy. Store it with your other secrets, and set it as FINCH_KEY. Anyone who has
the key and the database can read every token. If the key is lost, the tokens are lost.

To replace a key later without losing a token, deploy twice:
  1. Set FINCH_ACCEPTED_KEYS to the new key on every server.
  2. Set FINCH_KEY to the new key, and FINCH_ACCEPTED_KEYS to the old one.
The id before the colon is not secret. Each key has its own.
"""


def _check_id(ctx: click.Context, parameter: click.Parameter, key_id: str | None) -> str | None:
    """*key_id*, if a key may have it."""
    try:
        read_some({"key": new_key(key_id)}, ["key"])
    except ConfigurationError:
        raise click.BadParameter("1 to 32 of the letters A-Z and a-z, digits, - and _") from None
    return key_id


@click.command()
@click.option(
    "--id",
    "key_id",
    callback=_check_id,
    help="Name of the key, random by default. It is not secret. Each key needs its own.",
)
def command(key_id: str | None) -> None:
    """
    Print a new encryption key: an id and 32 random bytes.

    The command prints one line and stores nothing.
    """
    click.echo(new_key(key_id))
    # A file or a secret manager gets the key only.
    if sys.stdout.isatty():
        click.secho(_ADVICE, dim=True, err=True, nl=False)
