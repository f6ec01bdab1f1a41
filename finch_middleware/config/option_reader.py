"""The options read one by one: what is wrong with each, and how it is mended."""

from __future__ import annotations

import base64
import importlib.util
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import SplitResult, urlsplit

from finch_middleware.config.options import ENVIRONMENT, STORAGE_SCHEMES
from finch_middleware.config.urls import (
    PATH,
    PLAIN,
    address_faults,
    check_return_to,
    origin_of,
    usable_proxy,
    wsgi_path,
)
from finch_middleware.crypto.keys import KEY_BYTES, Key, KeyProvider
from finch_middleware.errors import ConfigurationError, UsageError
from finch_middleware.secret import Secret

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PRODUCT = re.compile(r"[a-z][a-z_]*(?::[a-z_]+)?")
_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://")
_NOWHERE = urlsplit("https://invalid/")
_NO_KEY = Key(key_id="none", material=Secret(""))


class OptionReader:
    """Reads options one by one and remembers every fault; values after a fault are fillers."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._faults: list[str] = []

    def finish(self, *, known: set[str]) -> None:
        for name in sorted(set(self._options) - known):
            self._faults.append(f"{name}: there is no such option; see docs/configuration.md")
        if self._faults:
            raise ConfigurationError(self._faults)

    def text(self, name: str, *, mend: str) -> str:
        value = self._options.get(name)
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str) or not PLAIN.fullmatch(value):
            state = "missing" if not value else "not plain text without spaces"
            variable = next((v for v, option in ENVIRONMENT.items() if option == name), None)
            self._faults.append(f"{name}: {state}; {mend}, pass it or set {variable}")
            return ""
        return value

    def secret(self, name: str, *, mend: str) -> Secret:
        return Secret(self.text(name, mend=mend))

    def choice(self, name: str, choices: tuple[Any, ...], default: Any) -> Any:
        value = self._options.get(name, default)
        if value not in choices:
            self._faults.append(f"{name}: must be one of {', '.join(map(repr, choices))}")
        return value

    def function(self, name: str) -> Any:
        value = self._options.get(name)
        if value is not None and not callable(value):
            self._faults.append(f"{name}: must be a function")
        return value

    def flag(self, name: str) -> bool:
        value = self._options.get(name, False)
        # Not by its truth: "no" is true to Python.
        if not isinstance(value, bool):
            self._faults.append(f"{name}: must be True or False")
        return value is True

    def clock(self) -> Callable[[], datetime]:
        given = self.function("clock")
        if not callable(given):
            return _utc_now
        if not _aware(given):
            self._faults.append(
                "clock: must return an aware datetime, as 'lambda: datetime.now(UTC)' does"
            )
        return cast("Callable[[], datetime]", given)

    def products(self) -> tuple[str, ...]:
        given = self._options.get("products", ())
        if isinstance(given, str) or not isinstance(given, Iterable):
            self._faults.append('products: a list is needed, such as ["company", "directory"]')
            return ()
        named = tuple(given)
        if not named or not all(isinstance(p, str) and _PRODUCT.fullmatch(p) for p in named):
            self._faults.append(
                'products: name at least one of Finch\'s, such as ["company", "directory"]'
            )
        return named

    def redirect_uri(self) -> str:
        uri = self.text("redirect_uri", mend="the address of the callback as a browser sees it")
        if uri:
            self._faults += address_faults("redirect_uri", uri)
            if "#" in uri:
                self._faults.append("redirect_uri: must have no fragment; drop the part from '#'")
        return uri

    def origin(self) -> str:
        return origin_of(self._redirect_parts())

    def callback_path(self) -> str:
        whole = wsgi_path(self._redirect_parts().path or "/")
        rewritten = self.flag("path_rewritten")
        given = self._options.get("callback_path")
        if given is None:
            return whole
        if not isinstance(given, str) or not PATH.fullmatch(given):
            self._faults.append(
                "callback_path: must be a path that begins with '/', without query or fragment"
            )
            return whole
        path = wsgi_path(given)
        if not whole.endswith(path) and not rewritten:
            self._faults.append(
                f"callback_path: {given!r} is not the end of redirect_uri's path; a browser would "
                "never reach it. Correct one of them, or say path_rewritten=True where a proxy "
                "rewrites the path"
            )
        return path

    def begin_path(self, *, callback_path: str) -> str | None:
        given = self._options.get("begin_path")
        if given is None:
            return None
        if not isinstance(given, str) or not PATH.fullmatch(given):
            self._faults.append("begin_path: must be a path that begins with '/', without query")
            return None
        if wsgi_path(given) == callback_path:
            self._faults.append("begin_path: must not be the path of the callback")
        if self._options.get("customer_of") is None:
            self._faults.append("begin_path: needs customer_of, which says who is signed in")
        return wsgi_path(given)

    def _redirect_parts(self) -> SplitResult:
        try:
            return urlsplit(str(self._options.get("redirect_uri", "")))
        except ValueError:
            return _NOWHERE

    def storage(self, protocol: type) -> object:
        value = self._options.get("storage")
        if value is None:
            self._faults.append(
                "storage: missing; pass a URL such as 'sqlite:///finch.db', or an object with the "
                "Storage methods, or set FINCH_STORAGE_URL"
            )
        elif isinstance(value, str):
            self._check_storage_url(value)
        elif isinstance(value, type) or not isinstance(value, protocol):
            self._faults.append(
                f"storage: a {type(value).__name__} has not all the methods of "
                "finch_middleware.storage.protocol.Storage; pass a URL or such an object"
            )
        return value

    def _check_storage_url(self, url: str) -> None:
        found = _SCHEME.match(url)
        # What stands before a forgotten "://" may be a password, so only a scheme is repeated.
        scheme = found[1] if found else ""
        if scheme not in STORAGE_SCHEMES:
            near = [known for known in STORAGE_SCHEMES if known.partition("+")[0] == scheme]
            mend = f"write {near[0]}://" if near else f"use one of {', '.join(STORAGE_SCHEMES)}"
            self._faults.append(f"storage: unknown scheme {scheme!r}; {mend}")
            return
        if url in ("sqlite://", "sqlite:///:memory:"):
            self._faults.append("storage: SQLite in memory is lost at every turn; say memory://")
        needed = STORAGE_SCHEMES[scheme]
        if needed and importlib.util.find_spec(needed[0]) is None:
            self._faults.append(
                f"storage: the driver {needed[0]} is not installed; "
                f"pip install 'finch-middleware[{needed[1]}]'"
            )

    def spool(self) -> Path | None:
        storage = self._options.get("storage")
        if "spool" in self._options:
            return self._spool_folder(self._options["spool"])
        if isinstance(storage, str) and storage.startswith("sqlite:///"):
            database = storage.removeprefix("sqlite:///").partition("?")[0]
            return Path(f"{database}-spool").absolute()
        in_memory = isinstance(storage, str) and storage.startswith("memory://")
        if storage is not None and not in_memory:
            self._faults.append(
                "spool: name a folder on a local disk in which a token waits while the storage is "
                "away, or say spool=None (FINCH_SPOOL=none) to do without"
            )
        return None

    def _spool_folder(self, given: object) -> Path | None:
        if given is None:
            return None
        if not isinstance(given, (str, Path)) or not str(given).strip():
            self._faults.append("spool: must be the path of a folder, or None to do without")
            return None
        return Path(given).absolute()

    def key(self) -> Key:
        if not self._options.get("key"):
            self._faults.append(
                "key: missing; make one with 'finch-middleware keygen', keep it with your "
                "secrets, pass it or set FINCH_KEY"
            )
            return _NO_KEY
        return self._parsed_key("key", self._options["key"])

    def accepted_keys(self) -> tuple[Key, ...]:
        given = self._options.get("accepted_keys") or ()
        if isinstance(given, (str, Secret)) or not isinstance(given, Iterable):
            given = (given,)
        keys = tuple(self._parsed_key("accepted_keys", key) for key in given)
        ids = [key.key_id for key in keys]
        present = _text_of(self._options.get("key")).partition(":")[0]
        if len({*ids, present}) <= len(ids) and ids:
            self._faults.append("accepted_keys: two keys have the same id; give each its own")
        return keys

    def _parsed_key(self, name: str, value: object) -> Key:
        key_id, _, encoded = _text_of(value).partition(":")
        try:
            material = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
        except ValueError:
            material = b""
        if not _KEY_ID.fullmatch(key_id) or not self._long_enough(material):
            form, maker = f"{KEY_BYTES} random bytes", "'finch-middleware keygen'"
            if self._options.get("key_provider") is not None:
                form, maker = "a wrapped key", "finch_middleware.crypto.keys.wrapped_key"
            self._faults.append(f"{name}: must read '<id>:<{form} in base64>'; {maker} makes one")
            return _NO_KEY
        return Key(key_id=key_id, material=Secret(base64.b64encode(material).decode()))

    def _long_enough(self, material: bytes) -> bool:
        if self._options.get("key_provider") is None:
            return len(material) == KEY_BYTES
        # A key that was never wrapped lies about as it is.
        return len(material) > KEY_BYTES

    def key_provider(self) -> KeyProvider | None:
        given = self._options.get("key_provider")
        if given is None:
            return None
        if not all(callable(getattr(given, name, None)) for name in ("wrap", "unwrap")):
            self._faults.append("key_provider: needs the methods wrap and unwrap")
        return cast("KeyProvider", given)

    def opened_by(self) -> Literal["begin", "application"]:
        value = self.choice("opened_by", ("begin", "application"), "begin")
        return cast('Literal["begin", "application"]', value)

    def deadline(self) -> timedelta:
        value = self._options.get("exchange_deadline", timedelta(seconds=12))
        if not isinstance(value, timedelta) or not timedelta(0) < value <= timedelta(seconds=20):
            self._faults.append("exchange_deadline: must be a timedelta of at most 20 seconds")
            return timedelta(seconds=12)
        return value

    def url(self, name: str, default: str) -> str:
        value = str(self._options.get(name) or default).rstrip("/")
        self._faults += address_faults(name, value)
        return value

    def proxy(self) -> Secret | None:
        given = self._options.get("proxy")
        if given is None:
            return None
        proxy = Secret(_text_of(given))
        if not usable_proxy(proxy.reveal()):
            self._faults.append("proxy: must be an address like http://host:port, or leave it out")
        return proxy

    def ca_bundle(self) -> str | None:
        given = self._options.get("ca_bundle")
        if given is None:
            return None
        if not isinstance(given, (str, Path)) or not _holds_certificates(str(given)):
            self._faults.append(
                "ca_bundle: must be a file of certificates in PEM form, or leave it out "
                "to trust those of certifi"
            )
        return str(given)

    def connect_origin(self) -> str:
        value = self.url("connect_origin", "https://connect.tryfinch.com")
        if address_faults("connect_origin", value):
            return value
        parts = urlsplit(value)
        if parts.path or parts.query or parts.fragment:
            self._faults.append("connect_origin: must be scheme and host alone, without a path")
        return origin_of(parts)

    def spa_origins(self) -> tuple[str, ...]:
        given = self._options.get("spa_origins", ())
        if isinstance(given, str) or not isinstance(given, Iterable):
            self._faults.append('spa_origins: a list is needed: ["https://app.example.com"]')
            return ()
        origins = tuple(str(each) for each in given)
        faults = [fault for each in origins for fault in address_faults("spa_origins", each)]
        if not faults and any(origin_of(urlsplit(each)) != each for each in origins):
            faults = ["spa_origins: each must be an origin as browsers send it, without a path"]
        self._faults += faults
        return () if faults else origins

    def return_to(self, *, spa_origins: Collection[str]) -> str:
        try:
            return check_return_to(self._options.get("return_to", "/"), spa_origins=spa_origins)
        except UsageError as error:
            self._faults.append(f"return_to: {str(error).removeprefix('return_to ')}")
            return "/"


def _text_of(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value or "")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _aware(clock: Callable[[], object]) -> bool:
    try:
        now = clock()
        return isinstance(now, datetime) and now.utcoffset() is not None
    except Exception:  # the application's own code: what raises, whatever it raises, is no clock
        return False


def _holds_certificates(file: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError):
        return False
    return True
