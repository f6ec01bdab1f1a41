"""
Reads options from the environment, and settings from options.

Everything that is wrong is reported at once, also names that only resemble one of ours.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

from finch_middleware.config.options import OPTIONS, Option, Options
from finch_middleware.config.readers import Wrong
from finch_middleware.config.settings import Settings
from finch_middleware.errors import ConfigurationError
from finch_middleware.secret import Secret

#: By an option's name: what a higher layer finds wrong with its value, one sentence each.
Checks = Mapping[str, Callable[[Any], Iterable[str]]]

_PREFIX = "FINCH_"
_VARIABLES = [option.variable for option in OPTIONS.values() if option.variable]
#: Finch's SDK reads it, so an application may have it without ours.
_OF_THE_SDK = ("FINCH_WEBHOOK_SECRET",)


def options_from_env(environ: Mapping[str, str] | None = None) -> Options:
    """
    The options that the ``FINCH_…`` variables set; an empty one counts as not set.

    A variable that resembles one of ours which is not set comes as an option of its own name, which
    is then reported with all other faults.
    """
    environ = os.environ if environ is None else environ
    options: dict[str, Any] = {
        name: environ[option.variable]
        for name, option in OPTIONS.items()
        if option.variable and environ.get(option.variable)
    }
    for name in ("products", "accepted_keys", "webhook_secrets"):
        if name in options:
            options[name] = re.findall(r"[^\s,]+", options[name])
    if options.get("spool") == "none":
        options["spool"] = None
    return cast("Options", {**options, **dict.fromkeys(_find_misspelt(environ), "")})


def take_options(environ: list[Mapping[str, str] | None], overrides: Options) -> Options:
    """The options of the environment under *overrides*; leaves nothing in either."""
    options = cast("Options", {**options_from_env(environ.pop()), **overrides})
    cast("dict[str, object]", overrides).clear()
    return options


def read_settings(options: Options, *, checks: Checks) -> Settings:
    """The settings that *options* describe, or a ConfigurationError with every fault."""
    return Settings(**read_some(options, OPTIONS, checks=checks))


def read_some(
    options: Options, names: Collection[str], *, checks: Checks = MappingProxyType({})
) -> dict[str, Any]:
    """
    The settings of these options alone, or a ConfigurationError with all their faults.

    Leaves nothing in *options*: a traceback with locals would show the secrets among them.
    """
    settings, faults = _read(options, names)
    for name, check in checks.items():
        if name in settings:
            faults += check(settings[name])
    if not faults:
        return settings
    del settings
    raise ConfigurationError(faults)


def _read(options: Options, names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that could be read, and what is wrong with the other options."""
    given = cast("dict[str, Any]", dict(options))
    cast("dict[str, object]", options).clear()
    faults = [_fault_of_unknown(name) for name in sorted(given.keys() - OPTIONS.keys())]
    settings: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        if name not in names:
            continue
        try:
            settings[name] = given[name] = _setting(option, given.get(name, option.default), given)
        except Wrong as wrong:
            given.pop(name, None)
            faults += [f"{name}: {fault}" for fault in wrong.args]
    return settings, faults


def _setting(option: Option, value: object, given: Mapping[str, Any]) -> object:
    if not option.required or value not in (None, "", Secret("")):
        return option.read(value, given)
    if os.environ.get(option.variable or ""):
        raise Wrong(f"missing; {option.variable} is set, but only FinchConnect.from_env() reads it")
    raise Wrong(f"missing; {option.required}, or set {option.variable} and call from_env()")


def _find_misspelt(environ: Mapping[str, str]) -> list[str]:
    """The variables that resemble one of ours, unless that one is set as well."""
    unset = [name.removeprefix(_PREFIX) for name in _VARIABLES if not environ.get(name)]
    return [
        name
        for name, value in environ.items()
        if value and name.startswith(_PREFIX) and name not in (*_VARIABLES, *_OF_THE_SDK)
        # An application may have variables of its own that begin as ours do.
        if difflib.get_close_matches(name.removeprefix(_PREFIX), unset, n=1, cutoff=0.75)
    ]


def _fault_of_unknown(name: str) -> str:
    kind, known = ("variable", _VARIABLES) if name.startswith(_PREFIX) else ("option", [*OPTIONS])
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {near[0]}?" if near else "see docs/configuration.md"
    return f"{name}: there is no such {kind}; {fix}"
