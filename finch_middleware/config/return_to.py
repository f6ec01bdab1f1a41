"""Where a person goes on: only ever a place of this application."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote, unquote

from finch_middleware.errors import UsageError

LIMIT_BYTES = 255

_ESCAPE = r"%[0-9A-Fa-f]{2}"
_SEGMENT = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ESCAPE})"
_TAIL = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|{_ESCAPE})*"
# RFC 3986's absolute path, query and fragment, without empty segments: a path that begins
# with two slashes is another host's to a browser.
_LOCAL = re.compile(rf"/(?:{_SEGMENT}+(?:/{_SEGMENT}+)*/?)?(?:\?{_TAIL})?(?:#{_TAIL})?")
_ASCII_GRAPHIC = "".join(map(chr, range(0x21, 0x7F)))
# Read as a browser, a proxy or a careless template might: once more decoded, twice more decoded.
_DECODINGS = 2


def place(value: str, *, spa_origins: Collection[str] = ()) -> str:
    """
    *value* as a `local_path`, or as one of *spa_origins* with a path as plain.

    Raises:
        UsageError: It names another place, or is not plain, or is over 255 bytes.
    """
    for origin in spa_origins:
        # The slash ends the host and its port: no app.example.com.evil, and no other origin
        # that begins with the same letters.
        if isinstance(value, str) and value.startswith(f"{origin}/"):
            whole = origin + local_path(value.removeprefix(origin))
            if len(whole) > LIMIT_BYTES:
                raise UsageError(f"return_to is over {LIMIT_BYTES} bytes")
            return whole
    return local_path(value)


def local_path(value: str) -> str:
    """
    *value* as a path that cannot lead anywhere but to this application.

    Spaces and letters outside ASCII are percent-encoded; nothing else is changed.

    Raises:
        UsageError: It names another place, or is not a plain path, or is over 255 bytes.
    """
    if not isinstance(value, str):
        raise UsageError("return_to must be text")
    encoded = quote(value, safe=_ASCII_GRAPHIC, errors="surrogatepass")
    if len(encoded) > LIMIT_BYTES:
        raise UsageError(f"return_to is over {LIMIT_BYTES} bytes")
    if not _LOCAL.fullmatch(encoded) or _misleads(encoded):
        raise UsageError("return_to must be a plain path of this application, such as '/settings'")
    return encoded


def _misleads(path: str) -> bool:
    """Whether *path* names another host, or hides a control, once somebody decodes it."""
    decoded = path.partition("?")[0].partition("#")[0]
    for _ in range(_DECODINGS):
        decoded = unquote(decoded)
        if "//" in decoded or "\\" in decoded or any(c < " " or c == "\x7f" for c in decoded):
            return True
    return False
