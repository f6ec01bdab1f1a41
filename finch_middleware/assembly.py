"""The pieces of one component, made once from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finch_middleware.begin import Begin
from finch_middleware.callback import Callback
from finch_middleware.connections import Connections
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.duplicates import Duplicates
from finch_middleware.exchange import Exchange
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.operations.recovery import Recovery
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import Tickets

if TYPE_CHECKING:
    from finch_middleware.config.settings import Settings
    from finch_middleware.web.pages import Pages
    from finch_middleware.webhooks import Webhooks


class Assembly:
    """What `FinchConnect` holds, made from the bottom up. Does no I/O."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.connections = Connections.of(settings)
        self.vault = self.connections.vault
        self.storage = self.connections.storage
        self.events = self.connections.statuses.events
        self.spool = Spool(settings.spool)
        self.tickets = Tickets(vault=self.vault, secure=settings.secure)
        self._client = self.connections.api
        self._connected = ConnectedHook(
            hook=settings.on_connected, vault=self.vault, storage=self.storage, events=self.events
        )
        self.recovery = Recovery(
            settings=settings,
            client=self._client,
            vault=self.vault,
            storage=self.storage,
            spool=self.spool,
            connected=self._connected,
            events=self.events,
        )

    def begin(self, pages: Pages) -> Begin:
        """Opens flows."""
        return Begin(
            settings=self._settings,
            client=self._client,
            tickets=self.tickets,
            recovery=self.recovery,
            connections=self.connections,
            events=self.events,
            pages=pages,
        )

    def callback(self, pages: Pages) -> Callback:
        """Finishes flows."""
        settings = self._settings
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
                connected=self._connected,
                events=self.events,
            ),
            exchange=Exchange(
                settings=settings,
                client=self._client,
                vault=self.vault,
                storage=self.storage,
                spool=self.spool,
                connected=self._connected,
                events=self.events,
            ),
            pages=pages,
            events=self.events,
        )

    def webhooks(self) -> Webhooks:
        """Receives events."""
        # Beside flows, nothing else needs it.
        from finch_middleware.webhooks import Webhooks

        return Webhooks(
            settings=self._settings,
            storage=self.storage,
            connections=self.connections,
            recovery=self.recovery,
            events=self.events,
        )
