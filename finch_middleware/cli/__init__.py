"""
The command line. A command is a file here and a row in `COMMANDS`.

Its file is named as the command, with ``_`` for ``-``, holds a click command called `command`,
and is loaded only when that command is called: ``--help`` stays quick, and what one command
needs (a driver, `rich`) the others do without.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from finch_middleware import __version__
from finch_middleware.errors import FinchError

#: Command: what ``--help`` says of it.
COMMANDS = {
    "demo": "Show the whole flow, offline, in a few seconds.",
    "keygen": "Print a new encryption key.",
    "create-tables": "Create the tables in a database.",
    "doctor": "Say what stands, what waits and what is wrong.",
    "connections": "List, show, export or delete connections.",
    "rotate-keys": "Bring every stored token under the present key.",
    "sweep": "Settle what was left behind; for a timer.",
    "recover": "List what was left behind; for a person.",
    "fake-finch": "Serve a fake Finch on this machine, for development.",
}


class CommandError(click.ClickException):
    """What is wrong and how to mend it, as plain text; the command ends with status 2."""

    exit_code = 2


class Commands(click.Group):
    """The rows of `COMMANDS`; an error of this library becomes its one text, without traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is that of a newcomer's questions."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, loaded now."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without loading what stands in it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            ctx.color = False
        try:
            return super().invoke(ctx)
        except FinchError as error:
            text = str(error)
        raise CommandError(text)


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="finch-middleware")
def main() -> None:
    """
    Finch Connect for WSGI applications: a callback becomes an encrypted, stored token, once.

    Settings come from the FINCH_... variables where a command has no option for them.
    """
