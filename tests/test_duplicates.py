"""What the loser of a claim gets, and how long it waits for that."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware import Connected, Event, Failed, Finishing, Invalid, Repeated, duplicates
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.duplicates import (
    WAIT_SECONDS,
    WAITING_BY_DEFAULT,
    Duplicates,
    waiting_limit,
)
from finch_middleware.errors import ReturnFault
from finch_middleware.hooks.events import Events
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.spool import Spool
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.sample_records import a_connection, an_attempt, key_of
from finch_middleware.tickets import REPLAY_WINDOW
from finch_middleware.web.request import Visit

VISIT = Visit(reference="VISIT", return_to="/of-the-visit", began=0.0)


class Desk:
    """
    Duplicates of one claimed attempt in memory; the clock moves by what is slept.

    Attributes:
        slept: The pauses that were made, in seconds.
        awake: Called after each.
        notified: Attempts whose hook was run.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, spool: Path | None = None) -> None:
        self.clock = Clock()
        self.spool = Spool(spool)
        self.storage = MemoryStorage()
        self.events: list[Event] = []
        self.slept: list[float] = []
        self.awake: Callable[[], object] = lambda: None
        self.notified: list[str] = []
        time = SimpleNamespace(sleep=self._sleep, monotonic=lambda: sum(self.slept))
        monkeypatch.setattr(duplicates, "time", time)
        named: Any = SimpleNamespace(
            clock=self.clock,
            waiting_duplicates=3,
            run=lambda attempt: self.notified.append(attempt.attempt_id),
            interrupt=self._interrupted,
            drain_entry=lambda entry: False,
        )
        self.settings = named
        self.log = Events(client_id="client", on_event=self.events.append)
        self.duplicates = Duplicates(
            settings=named,
            storage=self.storage,
            spool=self.spool,
            recovery=named,
            connected=named,
            events=self.log,
        )
        self.claimed = self.an_attempt()
        assert self.storage.claim(self.claimed) is None

    def an_attempt(self, **changes: Any) -> Attempt:
        now = self.clock()
        times = {"claimed_at": now, "leased_until": now + timedelta(seconds=60)}
        return an_attempt(**{**times, "return_to": "/of-the-attempt", **changes})

    def settle(self, state: AttemptState, **changes: Any) -> Attempt:
        settled = self.claimed.settled(state, at=self.clock(), **changes)
        self.storage.settle(settled)
        return settled

    def answer(self, standing: Attempt | None = None, **given: Any) -> Any:
        mine = self.an_attempt(**{"attempt_id": "mine", **given})
        return self.duplicates.outcome(standing or self.claimed, mine=mine, visit=VISIT)

    @property
    def reported(self) -> list[tuple[str, int, str | None, str | None, str | None]]:
        return [
            (each.name, each.level, each.reason, each.reference, each.attempt_id)
            for each in self.events
        ]

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.move(timedelta(seconds=seconds))
        self.awake()

    def _interrupted(self, attempt: Attempt) -> Attempt:
        ended = attempt.settled(AttemptState.FAILED, at=self.clock(), reason="interrupted")
        self.storage.settle(ended)
        return ended


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


JOINED = ("finch.callback.joined", logging.INFO, None, "VISIT", "attempt-code")


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """The request is refused for that reason, which names the attempt that it lost to."""
    with pytest.raises(ReturnFault) as fault:
        yield
    assert (fault.value.reason, fault.value.attempt_id) == (reason, "attempt-code")


def test_a_second_code_of_a_flow_is_refused(desk: Desk) -> None:
    with refused("code_mismatch"):
        desk.answer(code_hash=key_of("second"))

    assert desk.slept == []


def test_a_code_is_claimed_at_the_first_place_that_is_free(desk: Desk) -> None:
    places = tuple(key_of(f"place {n}") for n in range(3))

    claimed = [
        desk.duplicates.claim(desk.an_attempt(code=f"code {n}"), places=places)[0] for n in range(4)
    ]
    repeated = desk.an_attempt(code="code 1", attempt_id="again")
    again, _ = desk.duplicates.claim(repeated, places=places)

    assert [each.flow_hash for each in claimed] == [*places, places[2]]
    assert claimed[3] == claimed[2]
    assert again == claimed[1]
    assert desk.storage.attempt(key_of("code 3")) is None


def test_the_code_of_another_flow_is_refused(desk: Desk) -> None:
    with refused("already_used"):
        desk.answer(bound_to=(key_of("other"),))

    assert desk.slept == []


def test_a_spooled_token_that_the_storage_refuses_is_still_being_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    desk = Desk(monkeypatch, spool=tmp_path / "spool")
    connection = a_connection()
    stored = desk.claimed.settled(
        AttemptState.STORED, at=desk.clock(), connection_id=connection.connection_id
    )
    desk.spool.put(stored, connection)

    answer = desk.duplicates.spooled(desk.an_attempt(attempt_id="mine"))

    assert answer == Finishing(reference="REF-1", return_to="/of-the-attempt", spooled=True)


def test_the_answer_is_asked_for_ever_more_slowly_until_the_wait_is_over(desk: Desk) -> None:
    answer = desk.answer()

    assert answer == Finishing(reference="REF-1", return_to="/of-the-attempt", spooled=False)
    assert desk.reported == [JOINED]
    assert desk.slept[:6] == pytest.approx([0.05, 0.075, 0.1125, 0.16875, 0.25, 0.25])
    assert WAIT_SECONDS <= sum(desk.slept) < WAIT_SECONDS + 0.25


def test_the_wait_is_over_at_its_second(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "WAIT_SECONDS", 0.05)

    assert isinstance(desk.answer(), Finishing)

    assert desk.slept == [0.05]


def test_no_more_than_the_option_allows_wait_at_once(desk: Desk) -> None:
    depth, deepest = 0, 0

    def another() -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        desk.answer()
        depth -= 1

    desk.awake = another

    assert isinstance(desk.answer(), Finishing)

    # The pause of the third lets in a fourth, which makes none.
    assert deepest == 3
    desk.awake = lambda: None
    desk.slept.clear()
    desk.answer()
    assert desk.slept


def test_in_a_forked_child_every_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch)
    with ExitStack() as waiting:
        for _ in range(3):
            waiting.enter_context(desk.duplicates._waiting[os.getpid()].place(3))
        desk.answer()
        assert desk.slept == []

        monkeypatch.setattr(os, "getpid", lambda: 0)
        desk.answer()

    assert desk.slept


@pytest.mark.parametrize(
    ("pool", "threads", "may_wait"),
    [
        ("waitress-", 3, 0),
        ("waitress-", 4, 1),
        ("ThreadPoolExecutor-7_", 9, 2),
        ("uWSGIWorker2Core", 4, 1),
        ("CP Server Thread-", 10, 2),
        ("finch-asgi_", 16, 4),
        ("Dummy-", 8, WAITING_BY_DEFAULT),
        ("Thread-", 8, WAITING_BY_DEFAULT),
        (threading.main_thread().name, 0, 0),
    ],
)
def test_t43_by_default_a_quarter_of_a_known_pool_may_wait(
    pool: str, threads: int, may_wait: int
) -> None:
    ended = threading.Event()
    started = [threading.Thread(target=ended.wait, name=f"{pool}{n}") for n in range(threads)]
    for each in started:
        each.start()

    limit = waiting_limit(started[-1].name if started else pool)

    ended.set()
    for each in started:
        each.join()
    assert limit == may_wait


def test_without_the_option_the_name_of_the_thread_decides(desk: Desk) -> None:
    desk.settings.waiting_duplicates = None

    desk.answer()

    # The test itself runs in the main thread.
    assert desk.slept == []


@pytest.mark.parametrize("request_id", [None, "finch-1"])
def test_a_duplicate_that_waited_gets_the_outcome_of_the_first(
    desk: Desk, request_id: str | None
) -> None:
    desk.awake = lambda: desk.settle(
        AttemptState.STORED,
        return_to="/settings",
        connection_id="connection",
        customer_id="acme",
        request_id=request_id,
    )

    answer = desk.answer()

    assert answer == Repeated(
        first=Connected(
            reference="REF-1",
            return_to="/settings",
            connection_id="connection",
            customer_id="acme",
        )
    )
    assert answer.first.request_id == request_id

    assert desk.slept == [0.05]
    assert desk.notified == []


def test_what_was_released_is_repeated(desk: Desk) -> None:
    first = Failed(reference="FIRST", return_to="/", reason="throttled", retry_after=4)
    desk.awake = lambda: desk.duplicates.release(desk.claimed, first)

    assert desk.answer() == Repeated(first=first)


def test_what_another_process_released_may_be_tried_again(desk: Desk) -> None:
    desk.awake = lambda: desk.storage.release(desk.claimed)

    assert desk.answer() == VISIT.failed("unreachable")


@pytest.mark.parametrize("seconds", [60, 61])
def test_an_attempt_is_interrupted_once_its_lease_is_over(desk: Desk, seconds: int) -> None:
    desk.clock.move(timedelta(seconds=seconds))

    answer = desk.answer()

    # At the lease's last instant its owner may still be at work: one pause, and it is over.
    assert desk.slept == ([0.05] if seconds == 60 else [])
    assert answer == Repeated(
        first=Failed(reference="REF-1", return_to="/of-the-attempt", reason="interrupted")
    )


def test_an_end_that_was_forgotten_meanwhile_is_still_returned(desk: Desk) -> None:
    desk.clock.move(timedelta(seconds=61))
    desk.storage.release(desk.claimed)
    desk.storage.settle = lambda *record: True  # type: ignore[method-assign]  # keeps nothing

    assert desk.answer() == Repeated(
        first=Failed(reference="REF-1", return_to="/of-the-attempt", reason="interrupted")
    )


def test_an_owner_that_settles_at_that_moment_decides_the_outcome(desk: Desk) -> None:
    standing = desk.claimed
    desk.clock.move(timedelta(seconds=61))
    desk.settle(AttemptState.STORED, connection_id="connection", customer_id="acme")

    assert isinstance(desk.answer(standing).first, Connected)


def test_what_settling_gave_to_another_customer_is_refused(desk: Desk) -> None:
    desk.awake = lambda: desk.settle(AttemptState.STORED, bound_to=(key_of("other"),))

    with refused("already_used"):
        desk.answer()

    assert desk.reported == [JOINED]


@pytest.mark.parametrize(
    ("state", "reason", "kind", "repeated"),
    [
        (AttemptState.FAILED, "code_rejected", Failed, "code_rejected"),
        (AttemptState.AMBIGUOUS, None, Failed, "ambiguous"),
        (AttemptState.QUARANTINED, "other_customer", Invalid, "customer_unconfirmed"),
    ],
)
def test_an_end_without_a_connection_is_repeated(
    desk: Desk,
    state: AttemptState,
    reason: str | None,
    kind: type[Failed | Invalid],
    repeated: str,
) -> None:
    standing = desk.settle(state, reason=reason, request_id="finch-1")

    answer = desk.answer(standing)

    first = kind(reference="REF-1", return_to="/of-the-attempt", reason=repeated)
    assert answer == Repeated(first=first)
    assert answer.first.request_id == "finch-1"


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1)])
@pytest.mark.parametrize("settled", [True, False])
def test_a_connection_is_repeated_until_its_window_ends(
    desk: Desk, late: timedelta, settled: bool
) -> None:
    standing = desk.settle(AttemptState.STORED, customer_id=None, connection_id=None)
    if not settled:  # as an earlier version may have left it: its claim says when
        standing = standing.settled(AttemptState.STORED, at=None)
    desk.clock.move(REPLAY_WINDOW + late)

    connected = Connected(
        reference="REF-1", return_to="/of-the-attempt", connection_id="", customer_id=""
    )
    if late:
        with refused("already_used"):
            desk.answer(standing)
    else:
        assert desk.answer(standing) == Repeated(first=connected)


@pytest.mark.parametrize(("seconds", "hooks"), [(60, 0), (61, 1)])
def test_a_pending_hook_runs_once_the_lease_is_over(desk: Desk, seconds: int, hooks: int) -> None:
    standing = desk.settle(AttemptState.STORED, connection_id="connection", customer_id="acme")
    desk.clock.move(timedelta(seconds=seconds))

    desk.answer(standing)

    assert desk.notified == ["attempt-code"] * hooks
