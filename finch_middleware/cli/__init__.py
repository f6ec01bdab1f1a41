"""
The command line. A command is a file here and a row in `COMMANDS`.

Its file has the name of the command, with ``_`` for ``-``, and holds a click command called
`command`. It is loaded only when that command is called: ``--help`` stays quick, and a driver
that one command needs is no matter for the others.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sqlite3
import ssl
from importlib import metadata
from typing import Any

import click

from finch_middleware import __version__
from finch_middleware.errors import FinchError

#: Each command and its line in ``--help``.
COMMANDS = {
    "demo": "Show the whole flow on this machine, in a few seconds.",
    "keygen": "Print a new encryption key.",
    "create-tables": "Create the tables in a database.",
    "doctor": "Check storage, keys, connections, attempts and spool.",
    "connections": "List, show, export or delete connections.",
    "rotate-keys": "Re-encrypt every stored token with the current key.",
    "refresh": "Ask Finch for the status of connections (daily).",
    "sweep": "Recover spooled tokens and clean up (every few minutes).",
    "recover": "List attempts that an operator has to look at.",
    "fake-finch": "Run a fake Finch on this machine, for development.",
}


#: What ``--version`` shows, where it is installed; a report of a fault needs them.
_LIBRARIES = (
    *("werkzeug", "requests", "urllib3", "cryptography", "sqlalchemy", "click"),
    *("psycopg", "pymysql", "redis", "finch-api"),
    *("flask", "django", "starlette", "pyramid", "bottle", "falcon"),
)


class CommandError(click.ClickException):
    """What is wrong and how to fix it, in one text; the command ends with status 2."""

    exit_code = 2


class Commands(click.Group):
    """The commands of `COMMANDS`; an error of this library is printed without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: what a newcomer needs comes first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command with this name, or None; this loads it."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without loading the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            ctx.color = False
        try:
            return super().invoke(ctx)
        except FinchError as error:
            text = str(error)
        raise CommandError(text)


def _print_versions(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    click.echo(f"finch-middleware {__version__}")
    click.echo(f"Python {platform.python_version()} on {platform.system()}")
    click.echo(f"{ssl.OPENSSL_VERSION}, SQLite {sqlite3.sqlite_version}")
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            click.echo(f"{name} {metadata.version(name)}")
    ctx.exit()


@click.group(cls=Commands)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show this version and those of Python and of the installed libraries.",
)
def main() -> None:
    """
    Finch Connect for WSGI applications: each callback is exchanged once for a token, which is
    stored encrypted.

    Settings come from the FINCH_... variables, unless an option of the command replaces them.
    """
