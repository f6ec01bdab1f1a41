"""Settings: one frozen object that holds everything configured, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

from finch_middleware.config.customers import Customers
from finch_middleware.config.option_reader import OptionReader
from finch_middleware.config.options import FlowKind, Options
from finch_middleware.crypto.keys import Key, KeyProvider
from finch_middleware.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    Everything that is configured, checked.

    Attributes:
        redirect_uri: Sent to Finch exactly so; registered in Finch's dashboard.
        callback_path: The path that is ours, as WSGI's PATH_INFO has it (latin-1).
        begin_path: Where a flow begins without a view of the application; None: nowhere.
        spa_origins: Other origins whose pages may begin, hand a code over and be returned to.
        storage: A URL, or an object with the Storage methods.
        key: Seals and opens; *accepted_keys* open and never seal.
        key_provider: Unwraps those keys, where they are wrapped.
        return_to: Where a person goes on when a flow names no other place.
        require_state: Refuse a redirect return that does not bring its state back.
        opened_by: ``application``: it opens Connect itself, so the signed-in customer
            of `customer_of` decides alone where there is no ticket.
        flow: The flow kind of those returns.
        customer_of: The request's signed-in customer: a Customer or an id, several, or None.
        render: Makes the response to an Outcome in place of our pages, or returns None. May run on
            every reload.
        on_connected: Called at least once per stored connection.
        on_event: Called with every Event that is logged.
        spool: The folder of last resort, or None for none.
        exchange_deadline: How long the exchange may take, all tries together.
        proxy: An ``http://`` proxy on the way to Finch; its address may hold a password.
        ca_bundle: The file of certificates to trust on that way; None: certifi's.
        clock: The present instant, aware of its time zone.
    """

    client_id: str
    client_secret: Secret
    redirect_uri: str
    callback_path: str
    begin_path: str | None
    spa_origins: tuple[str, ...]
    origin: str
    products: tuple[str, ...]
    storage: object = field(repr=False)
    key: Key
    accepted_keys: tuple[Key, ...]
    key_provider: KeyProvider | None = field(repr=False)
    sandbox: Literal["finch", "provider"] | None
    return_to: str
    require_state: bool
    opened_by: Literal["begin", "application"]
    flow: FlowKind
    customer_of: Callable[[Any], Customers] | None
    render: Callable[[Any, Any], Any] | None
    on_connected: Callable[[Any], None] | None
    on_event: Callable[[Any], None] | None
    spool: Path | None
    exchange_deadline: timedelta
    api_url: str
    connect_origin: str
    proxy: Secret | None
    ca_bundle: str | None
    clock: Callable[[], datetime]

    @property
    def secure(self) -> bool:
        """Whether browsers reach the application over TLS; only loopback may do without."""
        return self.origin.startswith("https:")

    @classmethod
    def of(cls, options: Options, *, storage_protocol: type) -> Settings:
        """
        The settings that *options* describe.

        Raises:
            ConfigurationError: Lists everything that is wrong, each with its mend.
        """
        reader = OptionReader(cast("Mapping[str, Any]", options))
        callback_path = reader.callback_path()
        spa_origins = reader.spa_origins()
        settings = cls(
            client_id=reader.text("client_id", mend="it stands in Finch's dashboard"),
            client_secret=reader.secret("client_secret", mend="it stands in Finch's dashboard"),
            redirect_uri=reader.redirect_uri(),
            callback_path=callback_path,
            begin_path=reader.begin_path(callback_path=callback_path),
            spa_origins=spa_origins,
            origin=reader.origin(),
            products=reader.products(),
            storage=reader.storage(storage_protocol),
            key=reader.key(),
            accepted_keys=reader.accepted_keys(),
            key_provider=reader.key_provider(),
            sandbox=reader.choice("sandbox", (None, "finch", "provider"), None),
            return_to=reader.return_to(spa_origins=spa_origins),
            require_state=reader.flag("require_state"),
            opened_by=reader.opened_by(),
            flow=reader.choice("flow", ("redirect", "embedded"), "redirect"),
            customer_of=reader.function("customer_of"),
            render=reader.function("render"),
            on_connected=reader.function("on_connected"),
            on_event=reader.function("on_event"),
            spool=reader.spool(),
            exchange_deadline=reader.deadline(),
            api_url=reader.url("api_url", "https://api.tryfinch.com"),
            connect_origin=reader.connect_origin(),
            proxy=reader.proxy(),
            ca_bundle=reader.ca_bundle(),
            clock=reader.clock(),
        )
        reader.finish(known=set(Options.__annotations__))
        return settings
