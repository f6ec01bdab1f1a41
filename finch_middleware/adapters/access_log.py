"""
A filter that keeps the code and the state of a callback, and invitations, out of access logs.

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

_PERCENT = "%(?:25){0,5}"  # encoded once, or again and again


def _any_spelling(name: str) -> str:
    """A pattern for *name* with any of its letters percent-encoded: c%6Fde means code."""
    return "".join(
        f"(?:{letter}|{_PERCENT}(?:{ord(letter):x}|{ord(letter.upper()):x}))" for letter in name
    )


_NAME = f"(?:{'|'.join(map(_any_spelling, ('code', 'state', 'invitation')))})"
# Before a name: the beginning, what is no part of a word, or an escape of such a character.
_BEFORE = rf"(?:^|[^\w%-]|{_PERCENT}[0-9a-f]{{2}}|\\(?:u[0-9a-f]{{4}}|x[0-9a-f]{{2}}|[nrt]))"
_INDEX = rf"(?:\[[^\]&=\s]{{0,40}}\]|{_PERCENT}5b[^&=\s]{{0,40}}?{_PERCENT}5d)?"
_QUOTE = rf"""(?:\\{{0,7}}["']|{_PERCENT}2[27])"""
_COLON = rf"\s*(?:[:,]|{_PERCENT}(?:3a|2c))(?:[\s+]|{_PERCENT}20)*"
_OPENING = rf"(?:[\[(]|{_PERCENT}(?:5b|28))?\s*b?{_QUOTE}"
_QUOTED = rf".*?(?={_QUOTE}(?:[\s\]}},:;)&]|{_PERCENT}|$)|$)"

# A parameter of a query or a form; one of a URL that is itself a parameter, such as the ?next= of
# a login page, whose value ends with an & that is encoded as often; a member of JSON or of a dict.
_PARAMETER = re.compile(
    rf"({_BEFORE}{_NAME}{_INDEX}=)(?:{_QUOTE}{_QUOTED}|[^&\s\"]+)"
    rf"|({_BEFORE}{_NAME}{_INDEX}%(?P<level>(?:25){{0,5}})3d)(?:(?!%(?P=level)26)[^&\s\"])+"
    rf"|({_BEFORE}{_NAME}{_INDEX}{_QUOTE}{_COLON}{_OPENING}){_QUOTED}",
    re.IGNORECASE | re.MULTILINE,
)
_OWN_NAME = re.compile(_NAME, re.IGNORECASE)
_TICKET = re.compile(r"""((?:__Host-)?finch-[A-Za-z0-9_-]{8}=)[^;\s"',]+""")
_SEALED = re.compile(r"fm1\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{20,}")


class RedactCallback(logging.Filter):
    """
    Hides the values of `code`, `state` and `invitation`, and of this library's cookies.

    Add it to the logger of a server's access log. Parameters of these names are hidden in every
    URL, including the application's own, and so are members of JSON and of dicts. A name counts
    in capitals, with an index and percent-encoded any number of times.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact *record* in place; always True."""
        if not record.args:
            record.msg = _redact_argument(record.msg)
            return True
        # Formatters may read the arguments, so redact them there as well as in the message.
        if isinstance(record.args, tuple):
            record.args = tuple(map(_redact_argument, record.args))
        else:
            record.args = _redact_atoms(record.args)
        try:
            line = record.getMessage()
        except (TypeError, ValueError, LookupError):  # logging itself reports such a record
            return True
        if redacted(line) != line:
            record.msg, record.args = redacted(line), ()
        return True


def redacted(text: str) -> str:
    """*text* with the values of these parameters hidden wherever it names them."""
    text = _PARAMETER.sub(lambda found: f"{found[1] or found[2] or found[4]}{HIDDEN}", text)
    return _SEALED.sub(HIDDEN, _TICKET.sub(rf"\1{HIDDEN}", text))


def _redact_argument(argument: object) -> object:
    return redacted(argument) if isinstance(argument, str) else argument


def _redact_atoms(atoms: Mapping[str, object]) -> Mapping[str, object]:
    """A copy, because the mapping may belong to the application."""
    # Of the same class, because gunicorn's atoms have their own way to look up a name.
    hidden = copy.copy(atoms) if isinstance(atoms, dict) else dict(atoms)
    for name, value in atoms.items():
        if isinstance(value, str):
            hidden[name] = HIDDEN if _OWN_NAME.fullmatch(name) else redacted(value)
    return hidden
