"""
How the value of each option is read.

A reader gets the value, and all options: those above it in `Options` as read already, a wrong one
left out. It returns the setting, or raises `Wrong`; no sentence repeats what may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib.util
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from finch_middleware.config.products import fault_of_products
from finch_middleware.config.urls import (
    PATH,
    PLAIN,
    SENDABLE,
    check_return_to,
    fault_of_address,
    is_loopback,
    origin_of,
    usable_proxy,
    wsgi_path,
)
from finch_middleware.crypto.keys import KEY_BYTES, Key
from finch_middleware.errors import UsageError
from finch_middleware.secret import Secret

Given = Mapping[str, Any]
Reader = Callable[[Any, Given], object]

#: Scheme of a storage URL: the module that it needs, and the extra that installs it.
STORAGE_SCHEMES: dict[str, tuple[str, str] | None] = {
    "memory": None,
    "sqlite": None,
    "postgresql+psycopg": ("psycopg", "postgresql"),
    "mysql+pymysql": ("pymysql", "mysql"),
    "mariadb+pymysql": ("pymysql", "mysql"),
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
    "unix": ("redis", "redis"),  # redis-py's own word for a Redis behind a socket file
}
#: The default of the option `spool`; None already means no spool.
BESIDE_THE_DATABASE = object()

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PRODUCT = re.compile(r"[a-z][a-z_]*(?::[a-z_]+)?")
_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://")

_DAY = timedelta(days=1)

#: The clock of every component, unless the option `clock` replaces it.
utc_now = functools.partial(datetime.now, UTC)


class Wrong(Exception):
    """A value that cannot work: one sentence for each fault."""


def text(value: Any, given: Given) -> str:
    plain = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(plain, str) or not PLAIN.fullmatch(plain):
        raise Wrong("must be plain text without spaces")
    return plain


def secret(value: Any, given: Given) -> Secret:
    return Secret(text(value, given))


def only(admits: Callable[[Any], bool], must: str) -> Reader:
    """A reader that takes what *admits* as it is, and nothing else."""

    def read(value: Any, given: Given) -> object:
        if not admits(value):
            raise Wrong(must)
        return value

    return read


def one_of(*choices: object) -> Reader:
    return only(choices.__contains__, f"must be one of {', '.join(map(repr, choices))}")


history_retention = only(
    lambda value: isinstance(value, timedelta) and _DAY <= value <= 36500 * _DAY,
    "must be a timedelta of a day to a century, such as timedelta(days=365)",
)
exchange_deadline = only(
    lambda value: isinstance(value, timedelta) and timedelta() < value <= timedelta(seconds=20),
    "must be a timedelta of at most 20 seconds, such as timedelta(seconds=12)",
)
brand = only(
    lambda value: isinstance(value, str) and SENDABLE.fullmatch(value) is not None,
    "must be text; leave it out if your application has no name",
)
texts = only(lambda value: isinstance(value, Mapping), "must be a dict of texts by their names")
function = only(lambda value: value is None or callable(value), "must be a function")
# Not by its truth: Python takes "no" for true.
flag = only(lambda value: isinstance(value, bool), "must be True or False")
limit = only(
    lambda value: value is None or (type(value) is int and value >= 0),
    "must be a whole number, 0 or more, or None",
)


def templates(value: Any, given: Given) -> Path | None:
    must = "must be the path of a folder with a page.html, or None for our own"
    return None if value is None else _path(value, must)


def redirect_uri(value: Any, given: Given) -> str:
    uri = text(value, given)
    faults = [fault_of_address(uri)]
    if "#" in uri:
        faults.append("must have no fragment; drop the part from '#'")
    if len(uri) > 512:  # each flow's cookie holds it
        faults.append("must have at most 512 characters")
    if any(faults):
        raise Wrong(*filter(None, faults))
    return uri


def products(value: Any, given: Given) -> tuple[str, ...]:
    must = 'must be a list of Finch\'s products, such as ["company", "directory"]'
    names = _texts(value, must)
    if not names or not all(map(_PRODUCT.fullmatch, names)):
        raise Wrong(must)
    fault = fault_of_products(names)
    if fault and given.get("unknown_products") is not True:
        raise Wrong(fault)
    return names


def storage(value: Any, given: Given) -> object:
    if not isinstance(value, str):
        # Not at the top: a URL needs no storage to be loaded yet.
        from finch_middleware.storage.protocol import fault_of_storage

        if fault := fault_of_storage(value):
            raise Wrong(fault)
        return value
    found = _SCHEME.match(value)
    # Before a forgotten "://" there may be a password, so only a scheme is repeated.
    scheme = found[1] if found else ""
    if scheme not in STORAGE_SCHEMES:
        near = [known for known in STORAGE_SCHEMES if known.partition("+")[0] == scheme]
        fix = f"write {near[0]}://" if near else f"use one of {', '.join(STORAGE_SCHEMES)}"
        raise Wrong(f"unknown scheme {scheme!r}; {fix}" if scheme else f"is not a URL; {fix}")
    if not SENDABLE.fullmatch(value):
        raise Wrong("must contain no NUL and no surrogate")
    if value.partition("?")[0] in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise Wrong("SQLite in memory loses its data between requests; use memory:// for tests")
    needed = STORAGE_SCHEMES[scheme]
    if needed and importlib.util.find_spec(needed[0]) is None:
        raise Wrong(
            f"the driver {needed[0]} is not installed; "
            f"run pip install 'finch-middleware[{needed[1]}]'"
        )
    return value


def spool(value: Any, given: Given) -> Path | None:
    if value is None:
        return None
    if value is not BESIDE_THE_DATABASE:
        return _path(value, "must be the path of a folder, or None to use no spool").absolute()
    storage = given.get("storage")
    url = storage if isinstance(storage, str) else ""
    if storage is None or url.startswith("memory://"):
        return None
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///").partition("?")[0] + "-spool").absolute()
    raise Wrong(
        "missing; pass a folder on a local disk that keeps a token while the storage is "
        "unavailable, or set FINCH_SPOOL; spool=None (FINCH_SPOOL=none) uses no spool"
    )


def _path(value: object, must: str) -> Path:
    text = str(value) if isinstance(value, (str, Path)) else ""
    if not text.strip() or not SENDABLE.fullmatch(text):
        raise Wrong(must)
    return Path(text)


def key(value: Any, given: Given) -> Key:
    wrapped = _wraps_keys(given.get("key_provider"))
    key_id, _, encoded = _plain(value).partition(":")
    try:
        material = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        material = b""
    # A wrapped key is longer than the key that it protects.
    fits = len(material) > KEY_BYTES if wrapped else len(material) == KEY_BYTES
    if not _KEY_ID.fullmatch(key_id) or not fits:
        kind = "a wrapped key" if wrapped else f"{KEY_BYTES} random bytes"
        maker = "finch_middleware.wrapped_key" if wrapped else "'finch-middleware keygen'"
        raise Wrong(f"must have the form '<id>:<{kind} in base64>'; {maker} makes one")
    return Key(key_id=key_id, material=Secret(base64.b64encode(material).decode()))


def accepted_keys(value: Any, given: Given) -> tuple[Key, ...]:
    keys = tuple(key(each, given) for each in _one_or_several(value))
    current = given.get("key")
    ids = [each.key_id for each in (current, *keys) if isinstance(each, Key)]
    if len(set(ids)) < len(ids):
        raise Wrong("two keys have the same id; give each its own")
    return keys


def _wraps_keys(provider: object) -> bool:
    return all(callable(getattr(provider, name, None)) for name in ("wrap", "unwrap"))


key_provider = only(
    lambda value: value is None or _wraps_keys(value),
    "must be an object with the methods wrap and unwrap",
)


def callback_path(value: Any, given: Given) -> str | None:
    uri = given.get("redirect_uri")
    whole = wsgi_path(urlsplit(uri).path or "/") if uri else None
    if value is None:
        return whole
    path = _wsgi_path(value)
    if whole and not whole.endswith(path) and given.get("path_rewritten") is not True:
        raise Wrong(
            f"{value!r} is not the end of redirect_uri's path, so no browser would reach it; "
            "correct one of them, or pass path_rewritten=True if a proxy rewrites the path"
        )
    return path


def begin_path(value: Any, given: Given) -> str | None:
    missing = given.get("customer_of") is None
    faults = ["needs customer_of, which returns the signed-in customer"] * missing
    return _own_path(value, given, others=["callback_path"], faults=faults)


def invite_path(value: Any, given: Given) -> str | None:
    faults = []
    if given.get("path_rewritten"):
        faults.append("cannot be used with path_rewritten, which hides the address of the page")
    if given.get("opened_by") == "application":
        faults.append('cannot be used with opened_by="application", which asks for a login')
    return _own_path(value, given, others=["callback_path", "begin_path"], faults=faults)


def webhook_path(value: Any, given: Given) -> str | None:
    # Wrong secrets are left out of *given*, and reported.
    missing = given.get("webhook_secrets") == ()
    faults = ["needs webhook_secrets, from Finch's dashboard"] * missing
    others = ["callback_path", "begin_path", "invite_path"]
    return _own_path(value, given, others=others, faults=faults)


def _own_path(value: object, given: Given, *, others: list[str], faults: list[str]) -> str | None:
    """The path in WSGI's form; *others* must not have it, and *faults* forbid it."""
    if value is None:
        return None
    path = _wsgi_path(value)
    same = [f"must differ from {each}" for each in others if given.get(each) == path]
    if same or faults:
        raise Wrong(*same, *faults)
    return path


def _wsgi_path(value: object) -> str:
    if not isinstance(value, str) or not PATH.fullmatch(value):
        raise Wrong("must be a path that begins with '/', without query or fragment")
    return wsgi_path(value)


def webhook_secrets(value: Any, given: Given) -> tuple[Secret, ...]:
    several = _one_or_several(value)
    if not all(isinstance(each, (str, Secret)) and _is_base64(_plain(each)) for each in several):
        raise Wrong("must be secrets from Finch's dashboard, each in standard base64")
    return tuple(Secret(_plain(each)) for each in several)


def _is_base64(text: str) -> bool:
    """Whether it is some bytes in the standard alphabet, with nothing around them."""
    try:
        return bool(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:
        return False


def spa_origins(value: Any, given: Given) -> tuple[str, ...]:
    origins = _texts(value, 'must be a list such as ["https://app.example.com"]')
    if faults := [fault for each in origins if (fault := fault_of_address(each))]:
        raise Wrong(*faults)
    if any(origin_of(urlsplit(each)) != each for each in origins):
        raise Wrong("each must be an origin as browsers send it, without a path")
    return origins


def return_to(value: Any, given: Given) -> str:
    try:
        return check_return_to(value, spa_origins=given.get("spa_origins", ()))
    except UsageError as error:
        raise Wrong(str(error).removeprefix("return_to ")) from None


def proxy(value: Any, given: Given) -> Secret | None:
    if value is None:
        return None
    address = Secret(_plain(value))
    if not usable_proxy(address.reveal()):
        raise Wrong("must be an address such as http://host:port, or None")
    return address


def ca_bundle(value: Any, given: Given) -> str | None:
    if value is None:
        return None
    file = str(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError):
        must = "must be a file of certificates in PEM form, or None to trust those of certifi"
        raise Wrong(must) from None
    return file


def api_url(value: Any, given: Given) -> str:
    url = str(value).rstrip("/")
    if fault := fault_of_address(url):
        raise Wrong(fault)
    if "?" in url or "#" in url:
        raise Wrong("must have neither a query nor a fragment")
    return url


def connect_origin(value: Any, given: Given) -> str:
    if value is None:
        # Finch's own, or that of a fake on this machine, which serves both under one origin.
        parts = urlsplit(given.get("api_url", ""))
        return origin_of(parts) if is_loopback(parts.hostname) else "https://connect.tryfinch.com"
    parts = urlsplit(api_url(value, given))
    if parts.path:
        raise Wrong("must be scheme and host alone, without a path")
    return origin_of(parts)


def clock(value: Any, given: Given) -> Callable[[], datetime]:
    if value is None:
        return utc_now
    try:
        now = value()
        aware = isinstance(now, datetime) and now.utcoffset() is not None
    except Exception:  # the application's own code may raise anything
        aware = False
    if not aware:
        raise Wrong("must be a function that returns an aware datetime, as datetime.now(UTC) is")
    return cast("Callable[[], datetime]", value)


def _texts(value: object, must: str) -> tuple[str, ...]:
    # A text and a mapping are iterable as well, but not as a list of what they hold.
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise Wrong(must)
    texts = tuple(value)
    if not all(isinstance(each, str) for each in texts):
        raise Wrong(must)
    return texts


def _one_or_several(value: object) -> tuple[object, ...]:
    several: object = () if value is None else value
    if isinstance(several, (str, Secret)) or not isinstance(several, Iterable):
        return (several,)
    return tuple(several)


def _plain(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value or "")
