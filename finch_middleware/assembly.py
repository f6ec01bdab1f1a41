"""
The pieces of one component, each made once from the settings.

The only module that knows every concrete class; whoever adds a storage adds it to `storage_of`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

from finch_middleware.binding import Binder
from finch_middleware.callback import Flow
from finch_middleware.config.settings import Settings
from finch_middleware.connections import Connections
from finch_middleware.crypto.vault import KeyedHash, Vault
from finch_middleware.duplicates import Duplicates
from finch_middleware.errors import ConfigurationError
from finch_middleware.exchange import Exchange
from finch_middleware.finch.client import FinchClient
from finch_middleware.hooks import Events
from finch_middleware.keeping import Keeping
from finch_middleware.operations.recovery import Recovery
from finch_middleware.operations.rotation import Rotation
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import Tickets


class Assembly:
    """Makes each piece when another first needs it, so that their order is nobody's business."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client_id = settings.client_id

    @cached_property
    def flow(self) -> Flow:
        return Flow(
            settings=self._settings,
            api=self._api,
            vault=self.vault,
            tickets=self._tickets,
            binder=Binder(settings=self._settings, keyed_hash=self._keyed_hash),
            keyed_hash=self._keyed_hash,
            storage=self.storage,
            spool=self.spool,
            redeemer=self._redeemer,
            repeats=self._repeats,
            recovery=self.recovery,
            events=self.events,
        )

    @cached_property
    def connections(self) -> Connections:
        return Connections(
            client_id=self._client_id, storage=self.storage, vault=self.vault, api=self._api
        )

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(
            settings=self._settings,
            api=self._api,
            vault=self.vault,
            storage=self.storage,
            spool=self.spool,
            redeemer=self._redeemer,
            events=self.events,
        )

    @cached_property
    def rotation(self) -> Rotation:
        return Rotation(
            client_id=self._client_id, vault=self.vault, storage=self.storage, spool=self.spool
        )

    @cached_property
    def storage(self) -> Storage:
        return storage_of(self._settings.storage)

    @cached_property
    def spool(self) -> Spool:
        return Spool(self._settings.spool)

    @cached_property
    def events(self) -> Events:
        return Events(client_id=self._client_id, on_event=self._settings.on_event)

    @cached_property
    def vault(self) -> Vault:
        vault = Vault(
            client_id=self._client_id,
            key=self._settings.key,
            accepted_keys=self._settings.accepted_keys,
            key_provider=self._settings.key_provider,
        )
        if self._settings.key_provider is None:
            vault.prove()
        return vault

    @cached_property
    def _redeemer(self) -> Exchange:
        return Exchange(
            settings=self._settings,
            api=self._api,
            vault=self.vault,
            tickets=self._tickets,
            storage=self.storage,
            keeping=Keeping(storage=self.storage, spool=self.spool, events=self.events),
            events=self.events,
        )

    @cached_property
    def _repeats(self) -> Duplicates:
        return Duplicates(
            settings=self._settings,
            storage=self.storage,
            redeemer=self._redeemer,
            recovery=self.recovery,
            events=self.events,
        )

    @cached_property
    def _api(self) -> FinchClient:
        return FinchClient(
            client_id=self._client_id,
            client_secret=self._settings.client_secret,
            api_url=self._settings.api_url,
            proxy=self._settings.proxy,
            ca_bundle=self._settings.ca_bundle,
        )

    @cached_property
    def _tickets(self) -> Tickets:
        return Tickets(vault=self.vault, secure=self._settings.secure)

    @cached_property
    def _keyed_hash(self) -> KeyedHash:
        return KeyedHash(client_id=self._client_id, client_secret=self._settings.client_secret)


def storage_of(storage: Any) -> Storage:
    """
    The storage that a URL names; an object is taken as it is. The settings have checked it.

    Raises:
        ConfigurationError: Its driver does not take the URL.
    """
    if not isinstance(storage, str):
        return cast("Storage", storage)
    try:
        return _opened(storage)
    except ConfigurationError as error:
        faults = error.faults
    # Again, from a frame without the URL: it may hold the database's password.
    del storage
    raise ConfigurationError(faults)


def _opened(storage: str) -> Storage:
    if storage.startswith("memory:"):
        from finch_middleware.storage.memory import MemoryStorage

        return MemoryStorage()
    if storage.startswith(("redis:", "rediss:", "unix:")):
        from finch_middleware.storage.redis.storage import RedisStorage

        return RedisStorage(storage)
    from finch_middleware.storage.sql.storage import SQLAlchemyStorage

    return SQLAlchemyStorage(storage)
