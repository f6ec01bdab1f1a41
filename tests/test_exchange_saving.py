"""Where the end of an attempt is stored, how often that is tried, and what is reported."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from finch_middleware import exchange
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.exchange import SETTLE_PAUSES, SETTLE_TRIES_SECONDS, Exchanged
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt
from tests import exchanging
from tests.faulty_storage import FaultyStorage

UNAVAILABLE = ("finch.storage.unavailable", logging.ERROR, "StorageUnavailable")
RETRIED = ("finch.storage.retried", logging.WARNING, "StorageUnavailable")
SPOOLED = ("finch.token.spooled", logging.ERROR, None)
LOST = ("finch.token.lost", logging.CRITICAL, None)


class Desk(exchanging.Desk):
    """
    An exchange whose clock is moved by its pauses alone.

    Attributes:
        pauses: The pauses between the tries to settle, in seconds.
        now: The seconds that have passed.
    """

    def __init__(self, *, spool: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(spool=spool)
        self.storage = FaultyStorage(MemoryStorage())
        self.exchange.storage = self.storage
        self.pauses: list[float] = []
        self.now = 0.0
        time = SimpleNamespace(sleep=self._pause, monotonic=lambda: self.now)
        monkeypatch.setattr(exchange, "time", time)

    @property
    def reported(self) -> list[tuple[str, int, str | None]]:
        return [(event.name, event.level, event.reason) for event in self.events]

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(spool=tmp_path / "spool", monkeypatch=monkeypatch)


@pytest.fixture
def settled() -> Attempt:
    return an_attempt().settled(AttemptState.STORED, at=NOON)


def test_what_the_storage_takes_at_once_is_not_reported(desk: Desk, settled: Attempt) -> None:
    assert desk.exchange._save(settled, a_connection()) == Exchanged(attempt=settled)

    assert desk.connection == a_connection()
    assert desk.reported == []
    assert desk.pauses == []


def test_what_the_storage_takes_at_the_last_try_is_reported_once(
    desk: Desk, settled: Attempt
) -> None:
    desk.storage.down("settle", times=2)

    assert desk.exchange._save(settled, a_connection()) == Exchanged(attempt=settled)

    assert desk.connection == a_connection()
    assert desk.reported == [RETRIED]
    assert desk.pauses == list(SETTLE_PAUSES[1:])


def test_what_the_storage_never_takes_is_spooled(desk: Desk, settled: Attempt) -> None:
    desk.storage.down("settle")

    exchanged = desk.exchange._save(settled, a_connection())

    assert exchanged == Exchanged(attempt=settled, spooled=True)

    assert desk.reported == [UNAVAILABLE, SPOOLED]
    assert desk.storage.calls == ["settle"] * len(SETTLE_PAUSES)
    [entry] = desk.spool.entries()
    assert (entry.attempt, entry.connection) == (settled, a_connection())


def test_the_reason_is_the_name_of_the_last_error(desk: Desk, settled: Attempt) -> None:
    desk.storage.down("settle", times=2)
    desk.storage.raises("settle", ZeroDivisionError("a storage should not"))

    exchanged = desk.exchange._save(settled, a_connection())

    assert exchanged == Exchanged(attempt=settled, spooled=True)

    assert desk.reported[0] == ("finch.storage.unavailable", logging.ERROR, "ZeroDivisionError")


def test_without_a_spool_the_loss_is_reported(
    settled: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(spool=None, monkeypatch=monkeypatch)
    desk.storage.down("settle")

    exchanged = desk.exchange._save(settled, a_connection())

    lost = (exchanged.attempt.state, exchanged.attempt.reason, exchanged.spooled)
    assert lost == (AttemptState.FAILED, "token_lost", False)

    assert desk.reported == [UNAVAILABLE, LOST]
    assert {event.attempt_id for event in desk.events} == {settled.attempt_id}


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_worker_that_is_ended_leaves_its_token_in_the_spool(
    desk: Desk, settled: Attempt, end: type[BaseException]
) -> None:
    desk.storage.raises("settle", end())

    with pytest.raises(end):
        desk.exchange._save(settled, a_connection())

    assert desk.reported == [("finch.storage.unavailable", logging.ERROR, end.__name__), SPOOLED]
    [entry] = desk.spool.entries()
    assert (entry.attempt, entry.connection) == (settled, a_connection())


@pytest.mark.parametrize(("late", "tries"), [(0.0, 2), (0.1, 1)])
def test_no_try_begins_once_the_time_for_them_is_over(
    desk: Desk, settled: Attempt, late: float, tries: int
) -> None:
    def hang() -> None:
        desk.now += SETTLE_TRIES_SECONDS + late
        raise StorageUnavailable("busy")

    desk.storage.before("settle", hang)
    desk.storage.down("settle")

    exchanged = desk.exchange._save(settled, a_connection())

    assert exchanged == Exchanged(attempt=settled, spooled=True)

    assert desk.storage.calls == ["settle"] * tries


@pytest.mark.parametrize("unavailable", [False, True])
def test_an_end_without_a_token_is_tried_once_and_never_spooled(
    desk: Desk, settled: Attempt, unavailable: bool
) -> None:
    if unavailable:
        desk.storage.raises("settle", StorageUnavailable("full"))

    error = desk.exchange._settle(settled, None, pauses=(0.0,))

    assert error == ("StorageUnavailable" if unavailable else "")
    assert desk.storage.calls == ["settle"]
    assert desk.pauses == []
    assert not list(desk.spool.entries())
