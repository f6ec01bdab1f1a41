"""Refreshes connections one after the other, at a rate that leaves Finch's limit to others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from finch_middleware.crypto.opened import Connection
from finch_middleware.errors import CannotOpen, FinchRefused, FinchUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.shards import WHOLE, Shard

_BATCH = 500


@dataclass(frozen=True, slots=True)
class RefreshedSoFar:
    """
    How far `Connections.refresh_stale` has come.

    Attributes:
        asked: How many connections it has asked about.
        results: How many of them have each status, or ended with each error's `code`.
    """

    asked: int = 0
    results: Mapping[str, int] = field(default_factory=dict)


def rows_of(
    storage: Storage, shard: Shard | None = None, *, unreadable: set[str] | None = None
) -> Iterator[StoredConnection]:
    """
    Every connection of *shard*, or of all, that can be read; one batch is in memory.

    Adds the names of the other rows to *unreadable*.
    """
    after = None
    while True:
        batch = storage.scan_shard(shard or WHOLE, after=after, limit=_BATCH)
        if unreadable is not None:
            unreadable.update(batch.unreadable)
        if not batch.connections:
            return
        yield from batch.connections
        after = batch.connections[-1].connection_id


def refresh_each(
    rows: Iterable[StoredConnection],
    refresh: Callable[[StoredConnection], Connection | None],
    *,
    pause_seconds: float,
) -> Iterator[RefreshedSoFar]:
    """Refresh each of *rows*; see `Connections.refresh_stale`."""
    results: Counter[str] = Counter()
    for row in rows:
        if results:
            time.sleep(pause_seconds)
        try:
            known = refresh(row)
            result = known.status if known is not None else None
        except (FinchRefused, FinchUnavailable, CannotOpen) as fault:
            if getattr(fault, "reason", "") == "throttled":
                raise
            result = fault.code
        results[result or "unknown"] += 1
        yield RefreshedSoFar(asked=results.total(), results=dict(results))
