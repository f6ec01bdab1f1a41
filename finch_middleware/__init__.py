"""Finch Connect for WSGI applications: a callback becomes an encrypted, stored token, once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from finch_middleware.adapters.access_log import RedactCallback as RedactCallback
    from finch_middleware.attempts import Attempt as Attempt
    from finch_middleware.config.customers import Customer as Customer
    from finch_middleware.connect import FinchConnect as FinchConnect
    from finch_middleware.connections import Connections as Connections
    from finch_middleware.crypto.keys import (
        KeyProvider as KeyProvider,
        new_key as new_key,
        wrapped_key as wrapped_key,
    )
    from finch_middleware.crypto.opened import AccessToken as AccessToken, Connection as Connection
    from finch_middleware.errors import (
        AlreadyConnected as AlreadyConnected,
        CannotOpen as CannotOpen,
        ConfigurationError as ConfigurationError,
        FinchError as FinchError,
        FinchRefused as FinchRefused,
        FinchUnavailable as FinchUnavailable,
        KeyUnavailable as KeyUnavailable,
        SchemaMismatch as SchemaMismatch,
        SpoolUnavailable as SpoolUnavailable,
        StorageUnavailable as StorageUnavailable,
        Unavailable as Unavailable,
        UnknownConnection as UnknownConnection,
        UsageError as UsageError,
    )
    from finch_middleware.finch.responses import ConnectSession as ConnectSession
    from finch_middleware.finch.webhook import WebhookEvent as WebhookEvent
    from finch_middleware.hooks.events import Event as Event, Problem as Problem
    from finch_middleware.hooks.status import (
        EndedConnection as EndedConnection,
        StatusChange as StatusChange,
    )
    from finch_middleware.middleware import FinchMiddleware as FinchMiddleware
    from finch_middleware.outcomes import (
        Connected as Connected,
        Declined as Declined,
        Failed as Failed,
        Finishing as Finishing,
        Invalid as Invalid,
        Outcome as Outcome,
        Repeated as Repeated,
        Response as Response,
    )
    from finch_middleware.records import StoredConnection as StoredConnection
    from finch_middleware.secret import Secret as Secret
    from finch_middleware.storage.history import HistoryEntry as HistoryEntry
    from finch_middleware.storage.memory import MemoryStorage as MemoryStorage
    from finch_middleware.storage.protocol import Scan as Scan, Storage as Storage
    from finch_middleware.storage.redis.storage import RedisStorage as RedisStorage
    from finch_middleware.storage.sql.storage import SQLAlchemyStorage as SQLAlchemyStorage
    from finch_middleware.web.request import CallbackRequest as CallbackRequest

#: By module: its public names, loaded when one is first asked for (PEP 562).
_NAMES = {
    "adapters.access_log": "RedactCallback",
    "attempts": "Attempt",
    "config.customers": "Customer",
    "connect": "FinchConnect",
    "connections": "Connections",
    "crypto.keys": "KeyProvider new_key wrapped_key",
    "crypto.opened": "AccessToken Connection",
    "errors": "AlreadyConnected CannotOpen ConfigurationError FinchError FinchRefused "
    "FinchUnavailable KeyUnavailable SchemaMismatch SpoolUnavailable StorageUnavailable "
    "Unavailable UnknownConnection UsageError",
    "finch.responses": "ConnectSession",
    "finch.webhook": "WebhookEvent",
    "hooks.events": "Event Problem",
    "hooks.status": "EndedConnection StatusChange",
    "middleware": "FinchMiddleware",
    "outcomes": "Connected Declined Failed Finishing Invalid Outcome Repeated Response",
    "records": "StoredConnection",
    "secret": "Secret",
    "storage.history": "HistoryEntry",
    "storage.memory": "MemoryStorage",
    "storage.protocol": "Scan Storage",
    "storage.redis.storage": "RedisStorage",
    "storage.sql.storage": "SQLAlchemyStorage",
    "web.request": "CallbackRequest",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
