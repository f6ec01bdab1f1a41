"""Every rule about a URL, a path and visible ASCII."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Collection
from urllib.parse import SplitResult, quote, unquote, unquote_plus, unquote_to_bytes, urlsplit

from finch_middleware.errors import UsageError

PLAIN = re.compile(r"[\x21-\x7e]+")
PATH = re.compile(r"/[^\x00-\x20?#\x7f\ud800-\udfff]*")
#: Text that can be sent in UTF-8 and name a file.
SENDABLE = re.compile(r"[^\x00\ud800-\udfff]*")
RETURN_TO_LIMIT_BYTES = 255
#: An application has few places where people return to.
_PLACES_LIMIT = 256

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ESCAPE = r"%[0-9A-Fa-f]{2}"
_SEGMENT = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ESCAPE})"
_TAIL = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|{_ESCAPE})*"
# RFC 3986's absolute path, query and fragment, without empty segments: a browser reads a path
# that begins with two slashes as another host.
_LOCAL = re.compile(rf"/(?:{_SEGMENT}+(?:/{_SEGMENT}+)*/?)?(?:\?{_TAIL})?(?:#{_TAIL})?")
# Another host for a browser, or a control.
_MISLEADING = re.compile(r"//|[\\\x00-\x1f\x7f]")
_ASCII_GRAPHIC = "".join(map(chr, range(0x21, 0x7F)))


def is_loopback(host: str | None) -> bool:
    """Whether plain http to this host stays on this machine."""
    return host in _LOOPBACK


def origin_of(parts: SplitResult) -> str:
    """Scheme, host and port as a browser's Origin header has them."""
    default = {"https": 443, "http": 80}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _split(address: str) -> SplitResult | None:
    """The parts of a URL that can be read; None for any other."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # reading it checks it
    except ValueError:
        return None
    return parts


def fault_of_address(address: str) -> str | None:
    """What is wrong with a web address; only loopback may use plain http."""
    if not PLAIN.fullmatch(address):
        return "must be plain text without spaces"
    parts = _split(address)
    if parts is None:
        return "is not a web address"
    if parts.username is not None or parts.password is not None:
        return "must contain no user name or password"
    if not parts.hostname or parts.scheme not in ("https", "http"):
        return "must be a full address that begins with https://"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "must begin with https://; only localhost may use plain http"
    return None


def usable_proxy(address: str) -> bool:
    """Whether it is the ``http://`` address of a proxy, with or without credentials."""
    parts = _split(address) if PLAIN.fullmatch(address) else None
    return parts is not None and parts.scheme == "http" and bool(parts.hostname) and parts.port != 0


def wsgi_path(path: str) -> str:
    """A URL's path as PATH_INFO has it (PEP 3333): percent-decoded bytes, read as latin-1."""
    return unquote_to_bytes(path).decode("latin-1")


def browser_path(path: str, *, callback_path: str, redirect_uri: str) -> str | None:
    """
    One of the component's paths, given in WSGI's form, as a browser writes it.

    *path* and *callback_path* are below the same prefix, which *redirect_uri* shows. None if a
    proxy rewrites paths, because the prefix is then unknown.
    """
    whole = wsgi_path(urlsplit(redirect_uri).path or "/")
    if not whole.endswith(callback_path):
        return None
    return quote((whole.removesuffix(callback_path) + path).encode("latin-1"))


def check_return_to(value: str, *, spa_origins: Collection[str] = ()) -> str:
    """
    Return *value* if it is a path of this application, or of one of *spa_origins*.

    Spaces and letters outside ASCII are percent-encoded; nothing else is changed.

    Raises:
        UsageError: It leads elsewhere, is not a plain path, or is over 255 bytes.
    """
    if not isinstance(value, str):
        raise UsageError("return_to must be text")
    # The slash ends the host and its port, so that neither app.example.com.evil nor another
    # origin that begins with the same letters matches.
    origin = next((each for each in spa_origins if value.startswith(f"{each}/")), "")
    path = quote(value.removeprefix(origin), safe=_ASCII_GRAPHIC, errors="surrogatepass")
    if len(origin + path) > RETURN_TO_LIMIT_BYTES:
        raise UsageError(f"return_to is over {RETURN_TO_LIMIT_BYTES} bytes")
    if not _LOCAL.fullmatch(path) or _misleads(path):
        raise UsageError("return_to must be a plain path of this application, such as '/settings'")
    return origin + path


def _misleads(path: str) -> bool:
    """Whether *path* leads to another host, or contains a control, once it is decoded."""
    decoded = path.partition("?")[0].partition("#")[0]
    # A proxy or a careless template may decode it once or twice more than a browser.
    for _ in range(2):
        decoded = unquote(decoded)
        if _MISLEADING.search(decoded):
            return True
    return False


@functools.lru_cache(maxsize=_PLACES_LIMIT)
def safe_return_to(value: str, spa_origins: tuple[str, ...]) -> str:
    """*value*, if it is what `check_return_to` returns of it; otherwise ``/``."""
    try:
        plain = check_return_to(value, spa_origins=spa_origins)
    except ValueError:  # UsageError, or UnicodeEncodeError for a lone surrogate
        return "/"
    return value if plain == value else "/"


@functools.lru_cache(maxsize=_PLACES_LIMIT)
def around_parameters(address: str, names: tuple[str, ...]) -> tuple[str, str]:
    """*address* before and after the parameters *names*, of which it then has no other values."""
    address, hash_sign, fragment = address.partition("#")
    path, _, query = address.partition("?")
    parts = query.split("&") if query else []
    kept = [f"{each}&" for each in parts if unquote_plus(each.partition("=")[0]) not in names]
    return f"{path}?{''.join(kept)}", f"{hash_sign}{fragment}"


def parts_at(url: object, origin: str) -> SplitResult | None:
    """The parts of *url*, if every reader takes it to lead to *origin*."""
    # A URL that a browser and urlsplit could read as different hosts is refused.
    if not isinstance(url, str) or not PLAIN.fullmatch(url) or "\\" in url:
        return None
    parts = _split(url)
    return parts if parts and "@" not in parts.netloc and origin_of(parts) == origin else None


def warn_of_prefix(prefix: str, *, callback_path: str) -> None:
    """Warn the developer whose application is mounted under a *prefix* of *callback_path*."""
    if not prefix.strip("/") or not callback_path.startswith(f"{prefix}/"):
        return
    below = callback_path.removeprefix(prefix)
    warnings.warn(
        f"this application is mounted under {prefix!r}, so a FinchMiddleware in it receives the "
        f"callback as {below!r}, and forwards it: pass callback_path={below!r}",
        stacklevel=4,  # the view that has called `FinchConnect.begin`
    )
