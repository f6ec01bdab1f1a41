"""Waiting for the application's pool no longer than we wait for anything else."""

from __future__ import annotations

import time

from sqlalchemy import Pool, QueuePool

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql import dialects

_PAUSE_SECONDS = 0.01


def await_room(pool: Pool) -> None:
    """
    Return when *pool*, the application's, has a connection to give.

    The pool itself waits as long as the application has decided, thirty seconds by default.

    Raises:
        StorageUnavailable: All its connections are in use.
    """
    deadline = time.monotonic() + dialects.PATIENCE_SECONDS
    # SQLAlchemy has no public name for the limit; -1 is none.
    while (
        isinstance(pool, QueuePool)
        and pool.checkedin() == 0
        and -1 < pool._max_overflow <= pool.overflow()
    ):
        if time.monotonic() > deadline:
            raise StorageUnavailable("busy")
        time.sleep(_PAUSE_SECONDS)
