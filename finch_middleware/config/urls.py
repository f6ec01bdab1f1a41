"""Web addresses and paths as options have them: what is wrong, and how a browser writes them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

PLAIN = re.compile(r"[\x21-\x7e]+")
PATH = re.compile(r"/[^\x00-\x20?#\x7f\ud800-\udfff]*")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str | None) -> bool:
    """Whether plain http to this host stays on this machine."""
    return host in _LOOPBACK


def origin_of(parts: SplitResult) -> str:
    """Scheme, host and port as a browser's Origin header has them."""
    default = {"https": 443, "http": 80}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


def address_faults(name: str, address: str) -> list[str]:
    """What is wrong with a web address, in one sentence; plain http is for loopback alone."""
    if not PLAIN.fullmatch(address):
        return [f"{name}: must be plain text without spaces"]
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return [f"{name}: is not a web address"]
    if parts.username is not None or parts.password is not None:
        return [f"{name}: must hold no user name or password"]
    if not host or parts.scheme not in ("https", "http"):
        return [f"{name}: must be a whole address that begins with https://"]
    if parts.scheme == "http" and not is_loopback(host):
        return [f"{name}: must begin with https://; plain http is for localhost alone"]
    return []


def usable_proxy(address: str) -> bool:
    """Whether it is the ``http://`` address of a proxy, with or without credentials."""
    try:
        parts = urlsplit(address)
        # Reading the port checks it.
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and PLAIN.fullmatch(address) is not None


def wsgi_path(path: str) -> str:
    """A URL's path as PATH_INFO has it (PEP 3333): percent-decoded bytes, read as latin-1."""
    return unquote_to_bytes(path).decode("latin-1")


def browser_path(path: str, *, callback_path: str, redirect_uri: str) -> str | None:
    """
    A path of ours, in WSGI's form, as a browser writes it.

    Both it and *callback_path* are below whatever prefix *redirect_uri* has more. None where a
    proxy rewrites paths: then nobody here knows.
    """
    whole = wsgi_path(urlsplit(redirect_uri).path or "/")
    if not whole.endswith(callback_path):
        return None
    return quote((whole.removesuffix(callback_path) + path).encode("latin-1"))
