"""Finch Connect for WSGI applications: a callback becomes an encrypted, stored token, once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from finch_middleware.adapters.access_log import RedactCallback
    from finch_middleware.config.customers import Customer
    from finch_middleware.connect import FinchConnect
    from finch_middleware.crypto.keys import KeyProvider
    from finch_middleware.errors import (
        AlreadyConnected,
        CannotOpen,
        ConfigurationError,
        FinchError,
        FinchRefused,
        FinchUnavailable,
        KeyUnavailable,
        SpoolUnavailable,
        StorageUnavailable,
        Unavailable,
        UsageError,
    )
    from finch_middleware.finch.responses import ConnectSession
    from finch_middleware.hooks import Event
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
    from finch_middleware.records import AccessToken, Connection
    from finch_middleware.secret import Secret
    from finch_middleware.storage.protocol import Storage
    from finch_middleware.web.request import CallbackRequest

#: Public name: the module that has it, loaded when the name is first asked for (PEP 562).
_HOMES = {
    "AccessToken": "records",
    "AlreadyConnected": "errors",
    "Unavailable": "errors",
    "CallbackRequest": "web.request",
    "CannotOpen": "errors",
    "ConfigurationError": "errors",
    "ConnectSession": "finch.responses",
    "Connected": "outcomes",
    "Connection": "records",
    "Customer": "config.customers",
    "Declined": "outcomes",
    "Event": "hooks",
    "Failed": "outcomes",
    "FinchConnect": "connect",
    "FinchError": "errors",
    "FinchMiddleware": "middleware",
    "FinchRefused": "errors",
    "FinchUnavailable": "errors",
    "Finishing": "outcomes",
    "Invalid": "outcomes",
    "KeyProvider": "crypto.keys",
    "KeyUnavailable": "errors",
    "Outcome": "outcomes",
    "RedactCallback": "adapters.access_log",
    "Repeated": "outcomes",
    "Response": "outcomes",
    "Secret": "secret",
    "SpoolUnavailable": "errors",
    "Storage": "storage.protocol",
    "StorageUnavailable": "errors",
    "UsageError": "errors",
}

__all__ = [
    "AccessToken",
    "AlreadyConnected",
    "CallbackRequest",
    "CannotOpen",
    "ConfigurationError",
    "ConnectSession",
    "Connected",
    "Connection",
    "Customer",
    "Declined",
    "Event",
    "Failed",
    "FinchConnect",
    "FinchError",
    "FinchMiddleware",
    "FinchRefused",
    "FinchUnavailable",
    "Finishing",
    "Invalid",
    "KeyProvider",
    "KeyUnavailable",
    "Outcome",
    "RedactCallback",
    "Repeated",
    "Response",
    "Secret",
    "SpoolUnavailable",
    "Storage",
    "StorageUnavailable",
    "Unavailable",
    "UsageError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
