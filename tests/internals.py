"""The waits and limits inside the library that tests shorten: each has its one line here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import callback, duplicates, exchange
from finch_middleware.finch import transport
from finch_middleware.storage.redis import server as redis_server
from finch_middleware.storage.sql import dialects
from tests.site import Site


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing pauses between the tries to settle."""
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A duplicate waits for the first request for a moment only."""
    monkeypatch.setattr(duplicates, "WAIT_SECONDS", 0.1)


#: Longer than a storage has to wait for its database on any machine; and what it waits usually.
PATIENCE_SECONDS = 120
USUAL_PATIENCE_SECONDS = dialects.PATIENCE_SECONDS


def wait_for_databases(seconds: float, *, put: Callable[..., object] = setattr) -> None:
    """A storage that this process makes from now on waits so long for its database."""
    put(dialects, "PATIENCE_SECONDS", seconds)
    put(redis_server, "_PATIENCE_SECONDS", seconds)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No busy machine lets a storage give up."""
    wait_for_databases(PATIENCE_SECONDS, put=monkeypatch.setattr)
    monkeypatch.setattr(exchange, "SETTLE_TRIES_SECONDS", float(PATIENCE_SECONDS))


@pytest.fixture
def usually_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage made from now on waits as long as in production."""
    wait_for_databases(USUAL_PATIENCE_SECONDS, put=monkeypatch.setattr)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage made from now on waits for its database a moment only."""
    wait_for_databases(1.5, put=monkeypatch.setattr)


@pytest.fixture
def remembers_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process remembers one claim that it gave up, and one that it released."""
    monkeypatch.setattr(duplicates, "REMEMBERED_LIMIT", 1)


@pytest.fixture
def kept_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to Finch is kept however long the next request takes to come."""
    monkeypatch.setattr(transport, "_KEPT_SECONDS", 3600.0)


def time_before_the_exchange(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """What comes before the exchange may take *seconds*; more is taken from the exchange."""
    monkeypatch.setattr(callback, "BEFORE_THE_EXCHANGE", timedelta(seconds=seconds))


def exchange_times(monkeypatch: pytest.MonkeyPatch, site: Site) -> list[timedelta]:
    """The times that the exchanges of *site* may take, as they begin."""
    client = site.finch._callback.exchange.client
    original, times = client.exchange, []

    def noting(*given: Any, within: timedelta, **named: Any) -> Any:
        times.append(within)
        return original(*given, within=within, **named)

    monkeypatch.setattr(client, "exchange", noting)
    return times
