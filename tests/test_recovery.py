"""What a fault left behind is stored, reported or completed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import Connection, Problem
from finch_middleware.attempts import AttemptState
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.open import open_storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from finch_middleware.testing.sample_records import an_event
from tests.delivering import RECEIVING, delivery
from tests.faulty_storage import FaultyStorage
from tests.left_behind import left_behind, quarantined, spooled, standing
from tests.site import Browser, MakeSite, Site
from tests.storages import options_of
from tests.story.oracle import attempt_of, code_hash, code_of, tokens_of
from tests.threats.desk import component

LEASE = timedelta(seconds=61)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mysql", "redis"])
def storage_options(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Each kind of storage in turn, with faults on demand, and no pauses between tries."""
    monkeypatch.setattr("finch_middleware.exchange.SETTLE_PAUSES", (0.0,))
    given = options_of(request.param, request=request, folder=tmp_path)
    storage: Any = open_storage(given["storage"])
    yield {"storage": FaultyStorage(storage), "spool": tmp_path / "spool"}
    if hasattr(storage, "close"):
        storage.close()


@pytest.fixture
def faulty(storage_options: dict[str, Any]) -> FaultyStorage:
    found: FaultyStorage = storage_options["storage"]
    return found


def test_an_interrupted_attempt_is_reported_once_with_customer_time_and_reference(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    code = left_behind(fake, site, faulty)
    reference = standing(site, fake, code).reference
    clock.move(timedelta(seconds=59))
    early = site.finch.recovery.sweep()
    clock.move(LEASE - timedelta(seconds=59))

    swept, again = site.finch.recovery.sweep(), site.finch.recovery.sweep()

    [attempt] = swept.interrupted
    [event] = site.named("finch.attempt.interrupted")
    assert attempt.reference == event.reference == reference
    assert event.customer_ids == ("acme",)
    assert event.elapsed_ms == LEASE.total_seconds() * 1000
    assert standing(site, fake, code).reason == "interrupted"
    assert early.interrupted == again.interrupted == ()


def test_of_two_sweeps_at_once_one_lists_the_attempt(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, clock: Clock
) -> None:
    here, there = make_site(), make_site(clock=lambda: clock() + timedelta(seconds=1))
    left_behind(fake, here, faulty)
    clock.move(LEASE)
    found = []
    faulty.before("settle", lambda: found.append(there.finch.recovery.sweep()))

    swept = here.finch.recovery.sweep()

    assert [len(each.interrupted) for each in (swept, *found)] == [0, 1]
    assert len(here.events) + len(there.events) == 1


def test_an_attempt_that_settles_during_the_sweep_is_not_listed(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    code = left_behind(fake, site, faulty)
    late = standing(site, fake, code).settled(AttemptState.FAILED, at=clock(), reason="late")
    clock.move(LEASE)
    faulty.before("settle", lambda: faulty.real.settle(late))

    swept = site.finch.recovery.sweep()

    assert swept.interrupted == ()
    assert not site.named("finch.attempt.interrupted")


def test_a_sweep_stores_every_spooled_token(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, tmp_path: Path
) -> None:
    codes = [spooled(fake, site, faulty, each) for each in ("acme", "umbrella")]
    # The second begin has stored the first one: put it back into the spool.
    first = standing(site, fake, codes[0])
    connection = site.finch.storage.get(first.connection_id or "")
    site.finch.recovery.spool.put(first, connection)

    swept = site.finch.recovery.sweep()

    assert {each.code_hash for each in swept.drained} == {code_hash(fake, code) for code in codes}
    assert sorted(tokens_of(site, "acme") + tokens_of(site, "umbrella")) == sorted(
        fake.ledger.tokens
    )
    assert not list((tmp_path / "spool").glob("*.json"))


def test_another_client_of_the_same_spool_leaves_its_tokens(
    fake: FakeFinch, site: Site, make_site: MakeSite, faulty: FaultyStorage
) -> None:
    spooled(fake, site, faulty, "acme")
    connections_given: list[Connection] = []
    other = make_site(
        client_id="another", storage="memory://", on_connected=connections_given.append
    )

    drained = other.finch.recovery.drain()

    assert (drained, connections_given) == ((), [])
    assert len(site.finch.recovery.drain()) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_a_sweep_does_not_call_interrupted_what_waits_in_the_spool(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    spooled(fake, site, faulty, "acme")
    clock.move(LEASE)

    swept = site.finch.recovery.sweep()

    assert len(swept.drained) == 1
    assert swept.interrupted == ()


def test_an_on_connected_that_a_crash_prevented_runs_in_the_sweep(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
) -> None:
    connections_given: list[Connection] = []
    site = make_site(on_connected=connections_given.append)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    browser.get(callback)
    attempt = standing(site, fake, code_of(callback))
    site.finch.storage.settle(dataclasses.replace(attempt, notified=False))
    clock.move(LEASE)

    swept = [site.finch.recovery.sweep() for _ in range(2)]

    assert [each.attempt_id for each in connections_given] == [attempt.attempt_id] * 2
    assert [len(each.notified) for each in swept] == [1, 0]


@pytest.mark.parametrize(
    ("failures", "repeated"), [(0, "finch.exchange.ambiguous"), (1, "finch.attempt.interrupted")]
)
def test_an_attempt_is_reported_until_on_problem_returns(
    fake: FakeFinch,
    make_site: MakeSite,
    faulty: FaultyStorage,
    clock: Clock,
    failures: int,
    repeated: str,
) -> None:
    problems: list[str] = []

    def on_problem(problem: Problem) -> None:
        problems.append(problem.event.name)
        if len(problems) < 3:
            raise RuntimeError("the queue is unavailable")

    site = make_site(on_problem=on_problem)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.reset(processed=True))
    faulty.down("settle", times=failures)
    browser.get(callback)

    for _ in range(4):
        clock.move(LEASE * 2)
        site.finch.recovery.sweep()

    assert problems == ["finch.exchange.ambiguous", repeated, repeated]
    assert standing(site, fake, code_of(callback)).notified


def test_a_pending_hook_ends_with_its_connection(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
) -> None:
    site = make_site(on_connected=lambda connection: 1 / 0)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    browser.get(callback)
    connection_id = fake.ledger.codes[0].connection_id
    site.finch.connections.forget(connection_id, customer_id="acme")
    clock.move(LEASE)

    swept = site.finch.recovery.sweep()

    assert swept.notified == ()
    assert standing(site, fake, code_of(callback)).notified
    clock.move(timedelta(days=8))
    assert site.finch.recovery.sweep().forgotten == 1


def test_events_are_forgotten_after_a_day_and_counted(site: Site, clock: Clock) -> None:
    event = an_event(received_at=clock(), connection_id="announced")
    site.finch.storage.receive(event)
    clock.move(timedelta(days=1))
    early = site.finch.recovery.sweep()
    clock.move(timedelta(seconds=1))

    late = site.finch.recovery.sweep()

    assert (early.forgotten, late.forgotten) == (0, 2)
    assert site.finch.storage.event(event.event_id) is None
    assert site.finch.storage.row("announced") is None


def test_a_process_that_receives_nothing_but_events_forgets_old_ones(
    fake: FakeFinch, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FaultyStorage(MemoryStorage())
    finch = component(fake, **RECEIVING, storage=storage, spool=None, clock=clock)
    old = an_event(received_at=clock(), connection_id=None)
    storage.receive(old)
    clock.move(timedelta(days=2))
    storage.down("forget_events", times=1)

    kept = []
    for _ in range(3):
        assert finch.webhook(delivery(at=clock())).status_code == 200
        kept.append(storage.event(old.event_id) is not None)
        if len(kept) == 2:  # an hour after the failure
            monkeypatch.setattr(finch.recovery, "_forget_at", 0.0)

    assert kept == [True, True, False]


def test_attempts_are_forgotten_after_a_week_and_tokens_never(
    fake: FakeFinch, site: Site, clock: Clock
) -> None:
    browser = Browser(site)
    callback = fake.allow(browser.location())
    browser.get(callback)
    clock.move(timedelta(days=6))
    early = site.finch.recovery.sweep()
    clock.move(timedelta(days=1, seconds=1))

    late = site.finch.recovery.sweep()

    assert (early.forgotten, late.forgotten) == (0, 1)
    assert attempt_of(site, fake, code_of(callback)) is None
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_attempts_are_forgotten_in_passing_a_batch_an_hour_until_none_is_left(
    fake: FakeFinch, site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in ("sqlalchemy", "redis"):
        module = {"sqlalchemy": "sql", "redis": "redis"}[backend]
        monkeypatch.setattr(f"finch_middleware.storage.{module}.storage._BATCH", 1)
    browsers = [Browser(site) for _ in range(2)]
    codes = [code_of(callback) for callback in map(fake.allow, map(Browser.location, browsers))]
    for browser, code in zip(browsers, codes, strict=True):
        browser.get(f"/finch/callback?code={code}")
    clock.move(timedelta(days=7, seconds=1))

    def left() -> int:
        Browser(site).begin()
        return sum(attempt_of(site, fake, code) is not None for code in codes)

    within_the_hour = left()
    monkeypatch.setattr(site.finch.recovery, "_forget_at", 0.0)
    after_it, at_the_next_request = left(), left()

    # Memory has no batches.
    one_is_left = int(not site.finch.storage.real.in_process)
    assert (within_the_hour, after_it, at_the_next_request) == (2, one_is_left, 0)
    assert len(site.finch.connections.for_customer("acme")) == 1


def test_a_token_that_finch_confirms_is_completed_as_of_when_it_was_obtained(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
) -> None:
    connections_given: list[Connection] = []
    site = make_site(on_connected=connections_given.append)
    code = quarantined(fake, site, customer_id=None)
    at = clock()
    clock.move(timedelta(hours=3))
    [attempt] = site.finch.recovery.quarantined()

    completed = site.finch.recovery.complete(attempt)

    assert completed
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.access_token.reveal() == fake.ledger.tokens[0]
    assert connection.obtained_at == at
    assert [each.attempt_id for each in connections_given] == [attempt.attempt_id]
    assert standing(site, fake, code).sealed is None
    assert site.finch.recovery.quarantined() == []
    assert len(site.named("finch.quarantine.completed")) == 1


def test_a_newer_token_stays_when_an_older_one_is_completed(
    fake: FakeFinch, site: Site, clock: Clock
) -> None:
    quarantined(fake, site, customer_id=None)
    clock.move(timedelta(minutes=1))
    browser = Browser(site)
    browser.get(fake.allow(browser.location()))
    [attempt] = site.finch.recovery.quarantined()

    site.finch.recovery.complete(attempt)

    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]


def test_a_token_of_another_customer_is_never_completed(fake: FakeFinch, site: Site) -> None:
    stolen = fake.issue_code(customer_id="victim", redirect_uri=site.origin + "/finch/callback")
    browser = Browser(site)
    state = browser.location().partition("&state=")[2]
    browser.get(f"/finch/callback?code={stolen}&state={state}")
    [attempt] = site.finch.recovery.quarantined()

    completed = site.finch.recovery.complete(attempt)

    assert not completed
    assert tokens_of(site, "acme") == tokens_of(site, "victim") == []
    assert standing(site, fake, stolen).state is AttemptState.QUARANTINED
    assert fake.ledger.calls("disconnect") == 0


def test_a_hook_stays_pending_when_a_process_without_it_completes(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
) -> None:
    connections_given: list[Connection] = []
    application, operator = make_site(on_connected=connections_given.append), make_site()
    quarantined(fake, application, customer_id=None)
    [attempt] = operator.finch.recovery.quarantined()
    operator.finch.recovery.complete(attempt)
    before = len(connections_given)
    clock.move(LEASE)

    application.finch.recovery.sweep()

    assert before == 0
    assert [each.attempt_id for each in connections_given] == [attempt.attempt_id]


def test_another_clients_attempts_are_left_to_it(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, clock: Clock
) -> None:
    site = make_site()
    left_behind(fake, site, faulty)
    quarantined(fake, site, customer_id=None)
    stranger = make_site(client_id="another-client")
    clock.move(LEASE)

    swept = stranger.finch.recovery.sweep()

    assert swept.interrupted == ()
    assert stranger.finch.recovery.quarantined() == []
