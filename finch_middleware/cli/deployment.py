"""What commands work on: the application's own component or the environment's, told in words."""

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

#: Names of unreadable rows that fit a line.
_NAMED = 5

taking_application: Callable[[Any], Any] = click.option(
    "--app",
    "application",
    metavar="MODULE:NAME",
    help="The application's own FinchConnect (or its FinchMiddleware), so that its on_connected "
    "and on_event are called. Without it the FINCH_... variables say what to work on.",
)


def of_application(name: str | None) -> FinchConnect:
    """
    The component called *name*, ``module:attribute``; None: that of the environment.

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
        raise CommandError(f"--app: {name} is no FinchConnect and no FinchMiddleware")
    return component


def without_password(url: str) -> str:
    """A storage URL for people to read: no password, no query, which may hold one too."""
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        return f"{scheme}://..."
    user, _, host = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}@{host}" if user else host
    return f"{scheme}://{shown}{parts.path}"


def unreadable(names: Collection[str]) -> str:
    """How many rows cannot be read, and what the first of them are called in the storage."""
    some = ", ".join(repr(name) for name in sorted(names)[:_NAMED])
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} row{'' if len(names) == 1 else 's'} cannot be read ({some}{more})"


def summary(swept: Swept) -> str:
    """What a sweep found, in one line."""
    return (
        f"{len(swept.drained)} brought home from the spool, "
        f"{len(swept.interrupted)} interrupted, "
        f"{len(swept.notified)} told of at last, "
        f"{swept.forgotten} forgotten"
    )
