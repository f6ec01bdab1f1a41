"""
A filter that keeps the code and the state of a callback out of access logs.

A server writes the URL of every request to its access log, and the callback's URL holds the
state of a flow and a code that may not have been used yet::

    for name in ("gunicorn.access", "werkzeug"):
        logging.getLogger(name).addFilter(RedactCallback())

It understands records whose message or arguments hold a request line or a query string, as
written by gunicorn, uvicorn, and the development servers of werkzeug and Django. A server that
does not log through `logging`, such as wsgiref or nginx, needs its own configuration.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping

HIDDEN = "…"


def _any_spelling(name: str) -> str:
    """A pattern for *name* with any of its letters percent-encoded: c%6Fde means code."""
    return "".join(f"(?:{letter}|%{ord(letter):02x}|%{ord(letter):02X})" for letter in name)


# A query parameter: after ? or &, or at the beginning of a bare query string. Also in a URL that
# is itself a parameter, such as the ?next= of a login page.
_PARAMETER = re.compile(
    rf"""((?:^|[?&]|%3[Ff]|%26)(?:{_any_spelling("code")}|{_any_spelling("state")})(?:=|%3[Dd]))"""
    r"""(?:(?!%26)[^&#\s"])+"""
)
_TICKET = re.compile(r"""((?:__Host-)?finch-[A-Za-z0-9_-]{8}=)[^;\s"',]+""")


class RedactCallback(logging.Filter):
    """
    Hides the values of `code` and `state`, and of this library's cookies, in every record.

    Add it to the logger of a server's access log. Parameters of these names are hidden in every
    URL, including the application's own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact *record* in place; always True."""
        if not record.args:
            record.msg = _redact_argument(record.msg)
            return True
        # Formatters may read the arguments, so redact them there as well as in the message.
        record.args = _redact_arguments(record.args)
        try:
            line = record.getMessage()
        except (TypeError, ValueError, LookupError):  # logging itself reports such a record
            return True
        if redacted(line) != line:
            record.msg, record.args = redacted(line), ()
        return True


def redacted(text: str) -> str:
    """*text* with the values of `code` and `state` hidden in every URL in it."""
    return _TICKET.sub(rf"\1{HIDDEN}", _PARAMETER.sub(rf"\1{HIDDEN}", text))


def _redact_argument(argument: object) -> object:
    return redacted(argument) if isinstance(argument, str) else argument


def _redact_arguments(
    arguments: tuple[object, ...] | Mapping[str, object],
) -> tuple[object, ...] | Mapping[str, object]:
    if isinstance(arguments, tuple):
        return tuple(_redact_argument(each) for each in arguments)
    return _redact_atoms(arguments)


def _redact_atoms(atoms: Mapping[str, object]) -> Mapping[str, object]:
    """A copy, because the mapping may belong to the application."""
    changed = {
        name: text
        for name, value in atoms.items()
        if isinstance(value, str) and (text := redacted(value)) != value
    }
    if not changed:
        return atoms
    # Of the same class, because gunicorn's atoms have their own way to look up a name.
    hidden = copy.copy(atoms)
    if not isinstance(hidden, dict):
        return {**atoms, **changed}
    hidden.update(changed)
    return hidden
