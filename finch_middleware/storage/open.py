"""The only module that knows every backend: another storage gets its branch here."""

from __future__ import annotations

from typing import Any, cast

from finch_middleware.errors import ConfigurationError
from finch_middleware.storage.protocol import Storage


def open_storage(storage: Any) -> Storage:
    """
    The storage that a URL names; an object is returned as it is. The options have checked it.

    Raises:
        ConfigurationError: Its driver does not take the URL.
    """
    if not isinstance(storage, str):
        return cast("Storage", storage)
    try:
        return _open(storage)
    except ConfigurationError as error:
        faults = error.faults
    # Again, from a frame without the URL: it may hold the database's password.
    del storage
    raise ConfigurationError(faults)


def _open(storage: str) -> Storage:
    if storage.startswith("memory:"):
        from finch_middleware.storage.memory import MemoryStorage

        return MemoryStorage()
    if storage.startswith(("redis:", "rediss:", "unix:")):
        from finch_middleware.storage.redis.storage import RedisStorage

        return RedisStorage(storage)
    from finch_middleware.storage.sql.storage import SQLAlchemyStorage

    return SQLAlchemyStorage(storage)
