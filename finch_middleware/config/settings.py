"""The settings: all options, checked and in the form in which the library uses them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from finch_middleware.config.customers import Customers
from finch_middleware.config.environment import fault_of_unknown
from finch_middleware.config.options import (
    OPTIONS,
    FlowKind,
    OpenedBy,
    Option,
    Options,
    Sandbox,
)
from finch_middleware.config.readers import Wrong
from finch_middleware.config.urls import browser_path, origin_of
from finch_middleware.crypto.keys import Key, KeyProvider
from finch_middleware.errors import ConfigurationError
from finch_middleware.outcomes import Outcome, Response
from finch_middleware.records import Connection
from finch_middleware.secret import Secret

if TYPE_CHECKING:
    from finch_middleware.hooks import Event
    from finch_middleware.web.request import CallbackRequest

#: By an option's name: what a higher layer finds wrong with its value, one sentence each.
Checks = Mapping[str, Callable[[Any], Iterable[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is configured; `Options` states the meaning of each."""

    client_id: str
    client_secret: Secret
    redirect_uri: str
    products: tuple[str, ...]
    storage: object = field(repr=False)
    spool: Path | None
    key: Key
    accepted_keys: tuple[Key, ...]
    key_provider: KeyProvider | None = field(repr=False)
    sandbox: Sandbox | None
    unknown_products: bool
    callback_path: str
    path_rewritten: bool
    begin_path: str | None
    spa_origins: tuple[str, ...]
    return_to: str
    require_state: bool
    opened_by: OpenedBy
    flow: FlowKind
    customer_of: Callable[[CallbackRequest], Customers] | None
    render: Callable[[Outcome, CallbackRequest], Response | None] | None
    on_connected: Callable[[Connection], object] | None
    on_event: Callable[[Event], object] | None
    brand: str
    texts: Mapping[str, Mapping[str, str]]
    templates: str | Path | None
    exchange_deadline: timedelta
    proxy: Secret | None
    ca_bundle: str | None
    api_url: str
    connect_origin: str
    clock: Callable[[], datetime]

    @property
    def origin(self) -> str:
        """The origin of the callback, as a browser writes it."""
        return origin_of(urlsplit(self.redirect_uri))

    @property
    def secure(self) -> bool:
        """Whether browsers reach the application over TLS; only loopback may do without."""
        return self.origin.startswith("https:")

    @property
    def begin_href(self) -> str | None:
        """The begin path as a browser writes it, where there is one and that is known."""
        if self.begin_path is None:
            return None
        return browser_path(
            self.begin_path, callback_path=self.callback_path, redirect_uri=self.redirect_uri
        )

    @classmethod
    def of(cls, options: Options, *, checks: Checks) -> Settings:
        """
        The settings that *options* describe, where *checks* find no fault either.

        Raises:
            ConfigurationError: Lists everything that is wrong, and how to fix it.
        """
        settings, faults = _read(options)
        for name, check in checks.items():
            if name in settings:
                faults += check(settings[name])
        if not faults:
            return cls(**settings)
        # A traceback with locals would show the secrets among them.
        del settings, options
        raise ConfigurationError(faults)


def _read(options: Options) -> tuple[dict[str, Any], list[str]]:
    """The settings that could be read, and what is wrong with the other options."""
    given = cast("dict[str, Any]", dict(options))
    faults = [fault_of_unknown(name) for name in sorted(given.keys() - OPTIONS.keys())]
    settings: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        try:
            settings[name] = given[name] = _setting(option, given.get(name, option.default), given)
        except Wrong as wrong:
            given.pop(name, None)
            faults += [f"{name}: {fault}" for fault in wrong.args or (option.must,)]
    return settings, faults


def _setting(option: Option, value: object, given: Mapping[str, Any]) -> object:
    if not option.required or value not in (None, "", Secret("")):
        return option.read(value, given)
    if os.environ.get(option.variable or ""):
        raise Wrong(f"missing; {option.variable} is set, but only FinchConnect.from_env() reads it")
    raise Wrong(f"missing; {option.required}, or set {option.variable} and call from_env()")


def check_option(name: str, value: object) -> None:
    """
    Return if *value* can be used for that option, whatever the others are.

    Raises:
        ConfigurationError: It cannot.
    """
    _, faults = _read(cast("Options", {name: value}))
    del value
    if mine := [fault for fault in faults if fault.startswith(f"{name}:")]:
        raise ConfigurationError(mine)
