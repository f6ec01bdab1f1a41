"""Finch Connect for WSGI applications: a callback becomes an encrypted, stored token, once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from finch_middleware.adapters.access_log import RedactCallback
    from finch_middleware.attempts import Attempt
    from finch_middleware.config.customers import Customer
    from finch_middleware.connect import FinchConnect
    from finch_middleware.connections import Connections
    from finch_middleware.crypto.keys import KeyProvider, new_key, wrapped_key
    from finch_middleware.crypto.opened import AccessToken, Connection
    from finch_middleware.errors import (
        AlreadyConnected,
        CannotOpen,
        ConfigurationError,
        FinchError,
        FinchRefused,
        FinchUnavailable,
        KeyUnavailable,
        SchemaMismatch,
        SpoolUnavailable,
        StorageUnavailable,
        Unavailable,
        UnknownConnection,
        UsageError,
    )
    from finch_middleware.finch.responses import ConnectSession
    from finch_middleware.finch.webhook import WebhookEvent
    from finch_middleware.hooks.events import Event, Problem
    from finch_middleware.hooks.status import EndedConnection, StatusChange
    from finch_middleware.middleware import FinchMiddleware
    from finch_middleware.outcomes import (
        Connected,
        Declined,
        Failed,
        Finishing,
        Invalid,
        Outcome,
        Repeated,
        Response,
    )
    from finch_middleware.records import StoredConnection
    from finch_middleware.secret import Secret
    from finch_middleware.storage.history import HistoryEntry
    from finch_middleware.storage.memory import MemoryStorage
    from finch_middleware.storage.protocol import Scan, Storage
    from finch_middleware.storage.redis.storage import RedisStorage
    from finch_middleware.storage.sql.storage import SQLAlchemyStorage
    from finch_middleware.web.request import CallbackRequest

#: Public name: the module that has it, loaded when the name is first asked for (PEP 562).
_HOMES = {
    "AccessToken": "crypto.opened",
    "AlreadyConnected": "errors",
    "Attempt": "attempts",
    "CallbackRequest": "web.request",
    "CannotOpen": "errors",
    "ConfigurationError": "errors",
    "ConnectSession": "finch.responses",
    "Connected": "outcomes",
    "Connection": "crypto.opened",
    "Connections": "connections",
    "Customer": "config.customers",
    "Declined": "outcomes",
    "EndedConnection": "hooks.status",
    "Event": "hooks.events",
    "Failed": "outcomes",
    "FinchConnect": "connect",
    "FinchError": "errors",
    "FinchMiddleware": "middleware",
    "FinchRefused": "errors",
    "FinchUnavailable": "errors",
    "Finishing": "outcomes",
    "HistoryEntry": "storage.history",
    "Invalid": "outcomes",
    "KeyProvider": "crypto.keys",
    "KeyUnavailable": "errors",
    "MemoryStorage": "storage.memory",
    "Outcome": "outcomes",
    "Problem": "hooks.events",
    "RedactCallback": "adapters.access_log",
    "RedisStorage": "storage.redis.storage",
    "Repeated": "outcomes",
    "Response": "outcomes",
    "SQLAlchemyStorage": "storage.sql.storage",
    "Scan": "storage.protocol",
    "SchemaMismatch": "errors",
    "Secret": "secret",
    "SpoolUnavailable": "errors",
    "Storage": "storage.protocol",
    "StatusChange": "hooks.status",
    "StorageUnavailable": "errors",
    "StoredConnection": "records",
    "Unavailable": "errors",
    "UnknownConnection": "errors",
    "UsageError": "errors",
    "WebhookEvent": "finch.webhook",
    "new_key": "crypto.keys",
    "wrapped_key": "crypto.keys",
}

__all__ = [
    "AccessToken",
    "AlreadyConnected",
    "Attempt",
    "CallbackRequest",
    "CannotOpen",
    "ConfigurationError",
    "ConnectSession",
    "Connected",
    "Connection",
    "Connections",
    "Customer",
    "Declined",
    "EndedConnection",
    "Event",
    "Failed",
    "FinchConnect",
    "FinchError",
    "FinchMiddleware",
    "FinchRefused",
    "FinchUnavailable",
    "Finishing",
    "HistoryEntry",
    "Invalid",
    "KeyProvider",
    "KeyUnavailable",
    "MemoryStorage",
    "Outcome",
    "Problem",
    "RedactCallback",
    "RedisStorage",
    "Repeated",
    "Response",
    "SQLAlchemyStorage",
    "Scan",
    "SchemaMismatch",
    "Secret",
    "SpoolUnavailable",
    "StatusChange",
    "Storage",
    "StorageUnavailable",
    "StoredConnection",
    "Unavailable",
    "UnknownConnection",
    "UsageError",
    "WebhookEvent",
    "new_key",
    "wrapped_key",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
