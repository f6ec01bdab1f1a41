"""
A filter for access logs: the code and the state of a callback stay out of them.

A server writes the address of every request to its access log, and the callback's address
holds a code that may still be good and the state of a flow::

    for name in ("gunicorn.access", "werkzeug"):
        logging.getLogger(name).addFilter(RedactCallback())

It understands records whose message or arguments hold a request line or a query string:
gunicorn's atoms, werkzeug's and Django's development servers, uvicorn. What a server writes past
`logging`, as wsgiref and nginx do, must be told by its own configuration.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping

HIDDEN = "…"


def _spelled(name: str) -> str:
    """A pattern of *name*, any of its letters percent-encoded: c%6Fde is a code too."""
    return "".join(f"(?:{letter}|%{ord(letter):02x}|%{ord(letter):02X})" for letter in name)


# A parameter of a query: behind ? or &, or at the very beginning of a bare query string. Also in
# an address that is itself a parameter, as a log-in page's ?next= has it.
_PARAMETER = re.compile(
    rf"""((?:^|[?&]|%3[Ff]|%26)(?:{_spelled("code")}|{_spelled("state")})(?:=|%3[Dd]))"""
    r"""(?:(?!%26)[^&#\s"])+"""
)
_TICKET = re.compile(r"""((?:__Host-)?finch-[A-Za-z0-9_-]{8}=)[^;\s"',]+""")


class RedactCallback(logging.Filter):
    """
    Lets every record through, without the values of `code` and `state` and without our cookies.

    Add it to the logger that a server writes its access log to. Parameters of these names are
    hidden in every address, also the application's own: a line that tells too little harms nobody.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact *record* in place; always True."""
        if not record.args:
            record.msg = _redacted_argument(record.msg)
            return True
        # The arguments stay apart, because some formatters take them from there.
        record.args = _redacted_arguments(record.args)
        try:
            line = record.getMessage()
        except (TypeError, ValueError, LookupError):  # logging itself reports such a record
            return True
        if redacted(line) != line:
            record.msg, record.args = redacted(line), ()
        return True


def redacted(text: str) -> str:
    """*text* with the values of `code` and `state` hidden in the addresses that it holds."""
    return _TICKET.sub(rf"\1{HIDDEN}", _PARAMETER.sub(rf"\1{HIDDEN}", text))


def _redacted_argument(argument: object) -> object:
    return redacted(argument) if isinstance(argument, str) else argument


def _redacted_arguments(
    arguments: tuple[object, ...] | Mapping[str, object],
) -> tuple[object, ...] | Mapping[str, object]:
    if isinstance(arguments, tuple):
        return tuple(_redacted_argument(each) for each in arguments)
    return _redacted_atoms(arguments)


def _redacted_atoms(atoms: Mapping[str, object]) -> Mapping[str, object]:
    """A copy: a mapping of the application's own is not ours to change."""
    changed = {
        name: text
        for name, value in atoms.items()
        if isinstance(value, str) and (text := redacted(value)) != value
    }
    if not changed:
        return atoms
    # Of the same kind, because gunicorn's atoms look up names in their own way.
    hidden = copy.copy(atoms)
    if not isinstance(hidden, dict):
        return {**atoms, **changed}
    hidden.update(changed)
    return hidden
