"""How commands find the application's component, and texts that several commands print."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

import click

from finch_middleware.cli import CommandError
from finch_middleware.connect import FinchConnect
from finch_middleware.operations.recovery import Swept

_NAMES_SHOWN = 5

app_option: Callable[[Any], Any] = click.option(
    "--app",
    "application",
    metavar="MODULE:NAME",
    help="Your application's FinchConnect or FinchMiddleware, with its on_connected and on_event. "
    "Without it, the FINCH_... variables apply.",
)


def load_component(name: str | None) -> FinchConnect:
    """
    The component called *name* (``module:attribute``); None: that of the environment.

    Raises:
        CommandError: There is no such component.
        ConfigurationError: The environment does not describe one.
    """
    if name is None:
        return FinchConnect.from_env()
    module, _, attributes = name.partition(":")
    sys.path.insert(0, os.getcwd())  # as web servers do, which take the same kind of name
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"--app: {name} cannot be loaded: {error}") from None
    finally:
        sys.path.remove(os.getcwd())
    component = getattr(found, "finch", found)
    if not isinstance(component, FinchConnect):
        raise CommandError(f"--app: {name} is neither a FinchConnect nor a FinchMiddleware")
    return component


def without_password(url: str) -> str:
    """A storage URL without its password and its query, which may hold one too."""
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        return f"{scheme}://..."
    user, _, host = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}@{host}" if user else host
    return f"{scheme}://{shown}{parts.path}"


def unreadable_rows(names: Collection[str]) -> str:
    """How many rows cannot be read, and the names of the first ones."""
    shown = ", ".join(repr(name) for name in sorted(names)[:_NAMES_SHOWN])
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} row{'' if len(names) == 1 else 's'} cannot be read ({shown}{more})"


def sweep_summary(swept: Swept) -> str:
    """The result of a sweep in one line."""
    return (
        f"Tokens recovered from the spool: {len(swept.drained)}. "
        f"Interrupted attempts: {len(swept.interrupted)}. "
        f"Pending on_connected calls made: {len(swept.notified)}. "
        f"Old attempts removed: {swept.forgotten}."
    )
