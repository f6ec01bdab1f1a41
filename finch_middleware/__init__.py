"""Finch Connect for WSGI applications: a callback becomes an encrypted, stored token, once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from finch_middleware.access_log import RedactCallback
    from finch_middleware.adapters.wsgi import FinchMiddleware
    from finch_middleware.connect import FinchConnect
    from finch_middleware.customers import Customer
    from finch_middleware.errors import (
        AlreadyConnected,
        Away,
        CannotOpen,
        ConfigurationError,
        FinchError,
        FinchRefused,
        FinchUnavailable,
        KeyUnavailable,
        SpoolUnavailable,
        StorageUnavailable,
        UsageError,
    )
    from finch_middleware.events import Event
    from finch_middleware.messages import (
        Connected,
        Declined,
        Failed,
        Finishing,
        Invalid,
        Outcome,
        Repeated,
        Response,
    )
    from finch_middleware.options import KeyProvider
    from finch_middleware.records import AccessToken, Connection, ConnectSession
    from finch_middleware.request import CallbackRequest
    from finch_middleware.secret import Secret
    from finch_middleware.storage import Storage

#: Public name: the module that has it, loaded when the name is first asked for (PEP 562).
_HOMES = {
    "AccessToken": "records",
    "AlreadyConnected": "errors",
    "Away": "errors",
    "CallbackRequest": "request",
    "CannotOpen": "errors",
    "ConfigurationError": "errors",
    "ConnectSession": "records",
    "Connected": "messages",
    "Connection": "records",
    "Customer": "customers",
    "Declined": "messages",
    "Event": "events",
    "Failed": "messages",
    "FinchConnect": "connect",
    "FinchError": "errors",
    "FinchMiddleware": "adapters.wsgi",
    "FinchRefused": "errors",
    "FinchUnavailable": "errors",
    "Finishing": "messages",
    "Invalid": "messages",
    "KeyProvider": "options",
    "KeyUnavailable": "errors",
    "Outcome": "messages",
    "RedactCallback": "access_log",
    "Repeated": "messages",
    "Response": "messages",
    "Secret": "secret",
    "SpoolUnavailable": "errors",
    "Storage": "storage",
    "StorageUnavailable": "errors",
    "UsageError": "errors",
}

__all__ = [
    "AccessToken",
    "AlreadyConnected",
    "Away",
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
