"""The environment's variables, and names that resemble one of ours."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, cast

from finch_middleware.config.options import OPTIONS, Options

_PREFIX = "FINCH_"
_VARIABLES = [option.variable for option in OPTIONS.values() if option.variable]


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
    for name in ("products", "accepted_keys"):
        if name in options:
            options[name] = re.findall(r"[^\s,]+", options[name])
    if options.get("spool") == "none":
        options["spool"] = None
    return cast("Options", {**options, **dict.fromkeys(_misspelt(environ), "")})


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    """The variables that resemble one of ours, unless that one is set as well."""
    unset = [name.removeprefix(_PREFIX) for name in _VARIABLES if not environ.get(name)]
    return [
        name
        for name, value in environ.items()
        if value and name.startswith(_PREFIX) and name not in _VARIABLES
        # An application may have variables of its own that begin as ours do.
        if difflib.get_close_matches(name.removeprefix(_PREFIX), unset, n=1, cutoff=0.75)
    ]


def fault_of_unknown(name: str) -> str:
    """The fault of an option that does not exist, or of a variable that resembles one of ours."""
    kind, known = ("variable", _VARIABLES) if name.startswith(_PREFIX) else ("option", [*OPTIONS])
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {near[0]}?" if near else "see docs/configuration.md"
    return f"{name}: there is no such {kind}; {fix}"
