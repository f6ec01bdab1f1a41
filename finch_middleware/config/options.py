"""The options as they are given: their names, where the environment has them, new keys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from finch_middleware.config.customers import Customers
from finch_middleware.crypto.keys import KeyProvider
from finch_middleware.secret import Secret

FlowKind = Literal["redirect", "embedded"]

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


class Options(TypedDict, total=False):
    """What `FinchConnect(...)` takes; `Settings` says what each means."""

    client_id: str
    client_secret: str | Secret
    redirect_uri: str
    products: Sequence[str]
    storage: object
    key: str | Secret
    accepted_keys: Sequence[str | Secret]
    key_provider: KeyProvider | None
    sandbox: Literal["finch", "provider"] | None
    callback_path: str
    path_rewritten: bool
    begin_path: str
    spa_origins: Sequence[str]
    return_to: str
    require_state: bool
    opened_by: Literal["begin", "application"]
    flow: FlowKind
    customer_of: Callable[[Any], Customers]
    render: Callable[[Any, Any], Any]
    on_connected: Callable[[Any], None]
    on_event: Callable[[Any], None]
    spool: str | Path | None
    exchange_deadline: timedelta
    api_url: str
    connect_origin: str
    proxy: str | Secret | None
    ca_bundle: str | Path | None
    brand: str
    texts: Mapping[str, Mapping[str, str]]
    templates: str | Path
    clock: Callable[[], datetime]


#: Environment variable: the option that it sets.
ENVIRONMENT = {
    "FINCH_CLIENT_ID": "client_id",
    "FINCH_CLIENT_SECRET": "client_secret",
    "FINCH_REDIRECT_URI": "redirect_uri",
    "FINCH_CALLBACK_PATH": "callback_path",
    "FINCH_PRODUCTS": "products",
    "FINCH_SANDBOX": "sandbox",
    "FINCH_STORAGE_URL": "storage",
    "FINCH_KEY": "key",
    "FINCH_ACCEPTED_KEYS": "accepted_keys",
    "FINCH_SPOOL": "spool",
    "FINCH_API_URL": "api_url",
    "FINCH_CONNECT_ORIGIN": "connect_origin",
}


def options_from_env(environ: Mapping[str, str] | None = None) -> Options:
    """The options that the ``FINCH_…`` variables set; an empty one counts as not set."""
    environ = os.environ if environ is None else environ
    options: dict[str, Any] = {
        option: environ[name] for name, option in ENVIRONMENT.items() if environ.get(name)
    }
    for option in ("products", "accepted_keys"):
        if option in options:
            options[option] = re.findall(r"[^\s,]+", options[option])
    if options.get("spool") == "none":
        options["spool"] = None
    return cast("Options", options)
