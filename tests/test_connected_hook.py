"""The application's `on_connected` runs at least once for each stored token."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import Connection
from finch_middleware.attempts import Attempt, AttemptState
from tests.exchanging import STORED, Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()


def owed(desk: Desk, **changes: Any) -> Attempt:
    """An attempt whose hook is still to be run, with its connection in the storage."""
    desk.redeem()
    desk.hook_calls.clear()
    assert desk.standing is not None
    values = {"notified": False, **changes}
    return desk.standing.settled(AttemptState.STORED, at=desk.standing.settled_at, **values)


def test_a_pending_hook_is_run_and_noted(desk: Desk) -> None:
    attempt = owed(desk)
    desk.clock.move(timedelta(minutes=5))

    assert desk.connected.run(attempt) is True

    assert [each.connection_id for each in desk.hook_calls] == ["connection"]
    assert desk.standing is not None
    assert (desk.standing.notified, desk.standing.settled_at) == (True, attempt.settled_at)


@pytest.mark.parametrize("changes", [{"notified": True}, {"connection_id": None}])
def test_a_hook_that_is_not_pending_is_not_run(desk: Desk, changes: dict[str, Any]) -> None:
    attempt = owed(desk, **changes)

    assert desk.connected.run(attempt) is False

    assert desk.hook_calls == []


def test_without_a_hook_nothing_is_pending() -> None:
    desk = Desk(hook=False)

    assert desk.connected.run(owed(desk)) is False

    assert desk.heard() == [STORED]


def test_a_deleted_connection_runs_no_hook_and_leaves_none_pending(desk: Desk) -> None:
    attempt = owed(desk)
    stored = desk.storage.get("connection")
    assert stored is not None
    desk.storage.delete(stored, at=desk.clock())

    assert desk.connected.run(attempt) is False

    assert desk.hook_calls == []
    assert desk.standing is not None
    assert desk.standing.notified is True


def _raise(connection: Connection) -> None:
    raise ZeroDivisionError("the application's own")


def test_a_hook_that_raises_stays_pending(desk: Desk) -> None:
    attempt = owed(desk)
    desk.connected.hook = _raise
    desk.events.clear()

    assert desk.connected.run(attempt) is False

    assert desk.heard() == [("finch.hook.failed", logging.ERROR, "on_connected", "finch-1")]


def test_a_hook_whose_run_cannot_be_noted_may_run_again(desk: Desk) -> None:
    attempt = owed(desk)
    desk.storage.down("settle", times=1)
    desk.events.clear()

    assert desk.connected.run(attempt) is False
    assert desk.connected.run(attempt) is True

    assert len(desk.hook_calls) == 2
    [(name, level, reason, request_id)] = desk.heard()
    assert (name, level, request_id) == ("finch.storage.unavailable", logging.ERROR, "finch-1")
    assert reason.startswith("Storage")
