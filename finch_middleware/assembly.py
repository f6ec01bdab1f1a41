"""The pieces of one component, made once from its settings."""

from __future__ import annotations

from dataclasses import dataclass

from finch_middleware.begin import Begin
from finch_middleware.callback import Callback
from finch_middleware.config.settings import Settings
from finch_middleware.connections import Connections
from finch_middleware.crypto.vault import KeyedHash, Vault
from finch_middleware.duplicates import Duplicates
from finch_middleware.exchange import Exchange
from finch_middleware.finch.client import FinchClient
from finch_middleware.hooks import ConnectedHook, Events
from finch_middleware.operations.recovery import Recovery
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool
from finch_middleware.tickets import Tickets


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What `FinchConnect` holds."""

    events: Events
    vault: Vault
    storage: Storage
    spool: Spool
    connections: Connections
    recovery: Recovery
    begin: Begin
    callback: Callback


def assemble(settings: Settings) -> Assembly:
    """
    Make every piece, from the bottom up. Does no I/O.

    Raises:
        ConfigurationError: The driver of the storage does not take its URL.
    """
    client_id = settings.client_id
    events = Events(client_id=client_id, on_event=settings.on_event)
    vault = Vault(
        client_id=client_id,
        key=settings.key,
        accepted_keys=settings.accepted_keys,
        key_provider=settings.key_provider,
    )
    client = FinchClient(
        client_id=client_id,
        client_secret=settings.client_secret,
        api_url=settings.api_url,
        proxy=settings.proxy,
        ca_bundle=settings.ca_bundle,
    )
    storage = open_storage(settings.storage)
    spool = Spool(settings.spool)
    tickets = Tickets(vault=vault, secure=settings.secure)
    connected = ConnectedHook(settings.on_connected, vault=vault, storage=storage, events=events)
    recovery = Recovery(
        settings=settings,
        client=client,
        vault=vault,
        storage=storage,
        spool=spool,
        connected=connected,
        events=events,
    )
    connections = Connections(
        client_id=client_id, storage=storage, vault=vault, client=client, clock=settings.clock
    )
    callback = Callback(
        settings=settings,
        keyed_hash=KeyedHash(client_id=client_id, client_secret=settings.client_secret),
        tickets=tickets,
        duplicates=Duplicates(
            settings=settings,
            storage=storage,
            spool=spool,
            recovery=recovery,
            connected=connected,
            events=events,
        ),
        exchange=Exchange(
            settings=settings,
            client=client,
            vault=vault,
            storage=storage,
            spool=spool,
            connected=connected,
            events=events,
        ),
        events=events,
    )
    return Assembly(
        events=events,
        vault=vault,
        storage=storage,
        spool=spool,
        connections=connections,
        recovery=recovery,
        begin=Begin(
            settings=settings,
            client=client,
            tickets=tickets,
            recovery=recovery,
            connections=connections,
            events=events,
        ),
        callback=callback,
    )
