"""How commands find the application's component, and texts that several commands print."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import click

from finch_middleware.cli import CommandError
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import UsageError
from finch_middleware.operations.recovery import Swept
from finch_middleware.storage.shards import Shard

_NAMES_SHOWN = 5
_WRAPPERS_LIMIT = 20

app_option: Callable[[Any], Any] = click.option(
    "--app",
    "application",
    metavar="MODULE:NAME",
    help="The application's FinchConnect, or a FinchMiddleware, Flask application or factory that "
    "has one. Without it, the FINCH_... variables apply.",
)


def _shard(ctx: click.Context, parameter: click.Parameter, text: str) -> Shard:
    try:
        return Shard.parse(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


shard_option: Callable[[Any], Any] = click.option(
    "--shard",
    default="1/1",
    metavar="NUMBER/COUNT",
    callback=_shard,
    help="Only this part of the connections, such as 3/8; other processes do the rest.",
)


def load_component(name: str | None) -> FinchConnect:
    """
    The component called *name* (``module:attribute``); None: that of the environment.

    The attribute may also be an application or a middleware that holds a component, or a function
    that makes one of these and needs no argument, with or without ``()`` after its name.

    Raises:
        CommandError: There is no such component; the message names what was found.
        ConfigurationError: The environment does not describe one.
    """
    if name is None:
        return FinchConnect.from_env()
    sys.path.insert(0, os.getcwd())  # as web servers do, which take the same kind of name
    try:
        home, found = _import(name)
        held, kinds = _find_component(found() if _is_factory(found) else found)
    finally:
        sys.path.remove(os.getcwd())
    if held is not None:
        return held
    names = [each for each, value in vars(home).items() if isinstance(value, FinchConnect)]
    raise CommandError(
        f"--app: {name} is of type {' around '.join(kinds)}, and has no FinchConnect; name a "
        "FinchConnect, a FinchMiddleware, or a factory of one"
        + (f", such as {home.__name__}:{names[0]}" if names else "")
    )


def _import(name: str) -> tuple[ModuleType, Any]:
    """The module, and what it has under that name."""
    module, _, attributes = name.removesuffix("()").partition(":")
    try:
        home = importlib.import_module(module)
        return home, functools.reduce(getattr, attributes.split(".") if attributes else (), home)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"--app: {name} cannot be loaded: {error}") from None


def _is_factory(found: object) -> bool:
    if not inspect.isroutine(found):
        return False
    parameters = inspect.signature(found).parameters.values()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(each.default is not each.empty or each.kind in optional for each in parameters)


def _find_component(found: object) -> tuple[FinchConnect | None, list[str]]:
    """The component that *found* is or holds, and the types on the way to it."""
    kinds: list[str] = []
    while found is not None and len(kinds) < _WRAPPERS_LIMIT:
        if isinstance(found, FinchConnect):
            return found, kinds
        kinds.append(type(found).__name__)
        # A middleware of ours; Flask's application; the middlewares of werkzeug and Starlette.
        inner = (getattr(found, attribute, None) for attribute in ("finch", "wsgi_app", "app"))
        found = next((each for each in inner if each is not None), None)
    return None, kinds


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


def unopened_key(why: str) -> str:
    """What it means that a configured key opens no token that has its id."""
    return f"the configured key with this id decrypts none of them ({why}); configure the right one"


def unreadable_rows(names: Collection[str]) -> str:
    """How many rows cannot be read, and the names of the first ones."""
    shown = ", ".join(repr(name) for name in sorted(names)[:_NAMES_SHOWN])
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} row{'' if len(names) == 1 else 's'} cannot be read ({shown}{more})"


def sweep_summary(swept: Swept) -> str:
    return (
        f"Tokens recovered from the spool: {len(swept.drained)}. "
        f"Interrupted attempts: {len(swept.interrupted)}. "
        f"Pending on_connected calls made: {len(swept.notified)}. "
        f"Old attempts and events removed: {swept.forgotten}."
    )
