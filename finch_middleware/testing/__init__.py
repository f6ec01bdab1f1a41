"""
For the tests of an application that uses this library, and of a storage written for it.

See docs/testing.md. `finch_middleware.testing.django.use_fake_finch` is for Django, and the pytest
plugin provides the fixtures `fake_finch`, `finch` and `django_finch`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finch_middleware.testing.clock import Clock
    from finch_middleware.testing.component import fake_options, make_finch
    from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
    from finch_middleware.testing.rows import add_connection
    from finch_middleware.testing.storage_contract import StorageContract

__all__ = [
    "Behaviour",
    "Clock",
    "FakeFinch",
    "StorageContract",
    "add_connection",
    "fake_options",
    "make_finch",
]

# StorageContract needs pytest, which a demo or a development server may not have.
_HOMES = {
    "Behaviour": "fake_finch",
    "Clock": "clock",
    "FakeFinch": "fake_finch",
    "StorageContract": "storage_contract",
    "add_connection": "rows",
    "fake_options": "component",
    "make_finch": "component",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
