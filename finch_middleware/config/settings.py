"""The settings: all options in the form in which the library uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from finch_middleware.config.customers import Customers
from finch_middleware.config.urls import browser_path, origin_of
from finch_middleware.crypto.keys import Key, KeyProvider
from finch_middleware.outcomes import Outcome, Response
from finch_middleware.secret import Secret

if TYPE_CHECKING:
    from finch_middleware.crypto.opened import Connection
    from finch_middleware.finch.webhook import WebhookEvent
    from finch_middleware.hooks.events import Event, Problem
    from finch_middleware.hooks.status import EndedConnection, StatusChange
    from finch_middleware.web.request import CallbackRequest

FlowKind = Literal["redirect", "embedded"]
OpenedBy = Literal["begin", "application"]
Sandbox = Literal["finch", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What the stored connections need: in a worker as well, there without a client secret."""

    client_id: str
    client_secret: Secret
    storage: object = field(repr=False)
    key: Key
    accepted_keys: tuple[Key, ...]
    key_provider: KeyProvider | None = field(repr=False)
    history_retention: timedelta
    on_status: Callable[[StatusChange], object] | None
    on_disconnected: Callable[[EndedConnection], object] | None
    on_event: Callable[[Event], object] | None
    on_problem: Callable[[Problem], object] | None
    proxy: Secret | None
    ca_bundle: str | None
    api_url: str
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConnectionSettings):
    """What is configured; `Options` states the meaning of each."""

    redirect_uri: str
    products: tuple[str, ...]
    spool: Path | None
    sandbox: Sandbox | None
    unknown_products: bool
    callback_path: str
    path_rewritten: bool
    begin_path: str | None
    invite_path: str | None
    webhook_secrets: tuple[Secret, ...]
    webhook_path: str | None
    spa_origins: tuple[str, ...]
    return_to: str
    require_state: bool
    opened_by: OpenedBy
    flow: FlowKind
    customer_of: Callable[[CallbackRequest], Customers] | None
    render: Callable[[Outcome, CallbackRequest], Response | None] | None
    on_connected: Callable[[Connection], object] | None
    on_webhook: Callable[[WebhookEvent], object] | None
    brand: str
    texts: Mapping[str, Mapping[str, str]]
    templates: Path | None
    exchange_deadline: timedelta
    waiting_duplicates: int | None
    connect_origin: str

    @property
    def origin(self) -> str:
        """The origin of the callback, as a browser writes it."""
        return origin_of(urlsplit(self.redirect_uri))

    @property
    def secure(self) -> bool:
        """Whether browsers reach the application over TLS; only loopback may do without."""
        return self.origin.startswith("https:")

    def href(self, path: str | None) -> str | None:
        """One of our paths as a browser writes it, where there is one and that is known."""
        if path is None:
            return None
        return browser_path(path, callback_path=self.callback_path, redirect_uri=self.redirect_uri)
