"""``finch-middleware keygen``: a fresh key, on standard output and nowhere else."""

from __future__ import annotations

import sys

import click

from finch_middleware.config.settings import check_option
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import ConfigurationError

_ADVICE = """
This is the only copy. Keep it where your other secrets are, and give it to the application as
FINCH_KEY. Whoever has it and the database can read every token; without it nobody can.

To change keys without losing a token, in two deploys:
  1. FINCH_ACCEPTED_KEYS=<the new one>, everywhere: it opens what others seal with it.
  2. FINCH_KEY=<the new one>, FINCH_ACCEPTED_KEYS=<the old one>.
Give each key an id of its own: finch-middleware keygen --id k2
"""


def _checked_id(ctx: click.Context, parameter: click.Parameter, key_id: str) -> str:
    """*key_id*, if a key of that id would be taken."""
    try:
        check_option("key", new_key(key_id))
    except ConfigurationError:
        raise click.BadParameter("1 to 32 of the letters A-Z and a-z, digits, - and _") from None
    return key_id


@click.command()
@click.option(
    "--id",
    "key_id",
    default="k1",
    show_default=True,
    callback=_checked_id,
    help="The key's public name; each key of an application has its own.",
)
def command(key_id: str) -> None:
    """
    Print a new encryption key: an id and 32 random bytes.

    One line, for a secret manager or a file; the key is kept nowhere else.
    """
    click.echo(new_key(key_id))
    # Whoever pipes the key into a file or a secret manager wants no more than the key.
    if sys.stdout.isatty():
        click.secho(_ADVICE, dim=True, err=True, nl=False)
