"""The pieces of one component, made once from its settings."""

from __future__ import annotations

from finch_middleware.begin import Begin
from finch_middleware.callback import Callback
from finch_middleware.config.settings import Settings
from finch_middleware.connections import Connections
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.duplicates import Duplicates
from finch_middleware.exchange import Exchange
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.operations.recovery import Recovery
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import Tickets
from finch_middleware.web.pages import Pages
from finch_middleware.webhooks import Webhooks


class Assembly:
    """What `FinchConnect` holds, made from the bottom up. Does no I/O."""

    def __init__(self, settings: Settings) -> None:
        self.connections = Connections.of(settings)
        self.vault = self.connections.vault
        self.storage = self.connections.storage
        self.events = self.connections.statuses.events
        self.spool = Spool(settings.spool)
        self.tickets = Tickets(vault=self.vault, secure=settings.secure)
        self.pages = Pages(settings)
        connected = ConnectedHook(
            hook=settings.on_connected, vault=self.vault, storage=self.storage, events=self.events
        )
        self.recovery = Recovery(
            settings=settings,
            client=self.connections.api,
            vault=self.vault,
            storage=self.storage,
            spool=self.spool,
            connected=connected,
            events=self.events,
        )
        self.begin = Begin(
            settings=settings,
            client=self.connections.api,
            tickets=self.tickets,
            recovery=self.recovery,
            connections=self.connections,
            events=self.events,
            pages=self.pages,
        )
        self.webhooks = Webhooks(
            settings=settings,
            storage=self.storage,
            connections=self.connections,
            recovery=self.recovery,
            events=self.events,
        )
        self.callback = self._make_callback(settings, connected)

    def _make_callback(self, settings: Settings, connected: ConnectedHook) -> Callback:
        return Callback(
            settings=settings,
            keyed_hash=KeyedHash(
                client_id=settings.client_id, client_secret=settings.client_secret
            ),
            tickets=self.tickets,
            duplicates=Duplicates(
                settings=settings,
                storage=self.storage,
                spool=self.spool,
                recovery=self.recovery,
                connected=connected,
                events=self.events,
            ),
            exchange=Exchange(
                settings=settings,
                client=self.connections.api,
                vault=self.vault,
                storage=self.storage,
                spool=self.spool,
                connected=connected,
                events=self.events,
            ),
            pages=self.pages,
            events=self.events,
        )
