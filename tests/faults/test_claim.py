"""Claim: the first write, before which no code may be spent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.crash_campaign import Campaign
from finch_middleware import duplicates as repeats
from finch_middleware.attempts import AttemptState
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faults import troubles
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import filled
from tests.faulty_storage import FaultyStorage
from tests.site import CALLBACK, Answer, Browser, Site
from tests.storage.servers import Server
from tests.story.oracle import attempt_of, code_of, tokens_of

AWAY: dict[str, tuple[str, troubles.Trouble]] = {
    "postgresql-stopped": ("postgresql", troubles.gone),
    "postgresql-read-only": ("postgresql", troubles.postgresql_read_only),
    "mysql-killed": ("mysql", troubles.gone),
    "mysql-read-only": ("mysql", troubles.mysql_read_only),
    "redis-killed": ("redis", troubles.gone),
    "redis-without-replicas": ("redis", troubles.redis_without_replicas),
    "redis-full": ("redis", troubles.redis_full),
}
HANGING: dict[str, tuple[str, troubles.Trouble]] = {
    "postgresql-locked": ("postgresql", troubles.postgresql_locked),
    "mysql-locked": ("mysql", troubles.mysql_locked),
    "redis-paused": ("redis", troubles.redis_paused),
}


def refused_at_the_claim(answer: Answer, site: Site) -> bool:
    said = answer.status, answer.headers["Retry-After"], site.events[0].name
    return said == (503, "5", "finch.storage.unavailable")


@pytest.mark.parametrize("name", AWAY)
def test_claim_storage_down_spends_nothing_and_a_reload_connects(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    name: str,
) -> None:
    kind, trouble = AWAY[name]
    server: Server = request.getfixturevalue(kind)
    url = troubles.mysql_application(server) if kind == "mysql" else None
    site = make_site(storage=storage_on(server, url=url), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with trouble(server):
        refused = browser.get(callback)
    presented = fake.ledger.presented(code_of(callback))
    answer = browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert presented == 0
    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_claim_storage_down_connections_that_the_server_ended_are_not_noticed(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    postgresql: Server,
    tmp_path: Path,
) -> None:
    site = make_site(storage=storage_on(postgresql), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    troubles.end_backends(postgresql)
    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.parametrize("name", HANGING)
@pytest.mark.usefixtures("impatient")
def test_claim_storage_hangs_is_answered_in_time_and_a_reload_connects(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    name: str,
) -> None:
    kind, trouble = HANGING[name]
    server: Server = request.getfixturevalue(kind)
    site = make_site(storage=storage_on(server), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with trouble(server):
        refused = browser.get(callback)
    presented = fake.ledger.presented(code_of(callback))
    answer = browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert presented == 0
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_claim_storage_hangs_and_lands_late_and_is_no_bar_to_the_reload(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    faulty.cut("claim")
    faulty.down("attempt", times=1)

    refused = browser.get(callback)
    left = attempt_of(faulty_site, fake, code_of(callback))
    answer = browser.get(callback)

    assert refused.status == 503
    assert left is not None
    assert left.state is AttemptState.CLAIMED
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_claim_storage_hangs_and_lands_late_and_is_nobody_elses(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    browser, thief = Browser(faulty_site), Browser(faulty_site)
    callback = fake.allow(browser.location())
    state = thief.location("mallory").partition("&state=")[2]
    faulty.cut("claim")
    faulty.down("attempt", times=1)
    browser.get(callback)

    stolen = thief.get(f"{CALLBACK}?code={code_of(callback)}&state={state}")
    presented = fake.ledger.presented(code_of(callback))
    answer = browser.get(callback)

    assert stolen.status == 400
    assert presented == 0
    assert "finch=connected" in answer.location


@pytest.mark.usefixtures("impatient")
def test_claim_sqlite_locked_by_another_process_spends_nothing(
    fake: FakeFinch, site: Site, browser: Browser, tmp_path: Path
) -> None:
    callback = fake.allow(browser.location())

    with troubles.sqlite_locked(str(tmp_path / "finch.db")):
        refused = browser.get(callback)
    answer = browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert site.events[0].reason == "busy"
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_claim_disk_full_spends_nothing(worker: Campaign) -> None:
    presented = worker.figures.presented

    answer = worker.answered("pwrite64:error=ENOSPC:when=1+")

    assert answer == "503 "
    # By the reload that the campaign makes; the worker presented none.
    assert worker.figures.presented == presented + 1
    assert not worker.figures.faults


def test_claim_disk_full_is_told_by_its_name(
    fake: FakeFinch, make_site: Callable[..., Site], small_disk: Path, tmp_path: Path
) -> None:
    site = make_site(storage=f"sqlite:///{small_disk}/finch.db", spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with filled(small_disk):
        refused = browser.get(callback)
    presented = fake.ledger.presented(code_of(callback))
    answer = browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert site.events[0].reason == "full"
    assert presented == 0
    assert "finch=connected" in answer.location


def test_claim_sync_error_spends_nothing_and_the_database_opens(worker: Campaign) -> None:
    presented = worker.figures.presented

    answer = worker.answered("fdatasync:error=EIO:when=1", "fsync:error=EIO:when=1")

    assert answer == "503 "
    assert worker.figures.presented == presented + 1
    assert not worker.figures.faults


@pytest.mark.parametrize("forwarded", [True, False], ids=["landed", "lost"])
def test_claim_commit_unknown_goes_on_with_its_own_or_spends_nothing(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    postgresql: Server,
    proxy: CuttingProxy,
    tmp_path: Path,
    forwarded: bool,
) -> None:
    site = make_site(storage=storage_on(postgresql, url=proxy.url), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    proxy.cut_at_commit(forwarded=forwarded)

    first = browser.get(callback)
    presented = fake.ledger.presented(code_of(callback))
    reload = browser.get(callback)

    assert proxy.cut
    assert (first.status, presented) == ((303, 1) if forwarded else (503, 0))
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_claim_duplicate_joins_the_winner_and_gets_its_answer(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    copies = [Browser(site, dict(browser.cookies)) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(copy.get, callback) for copy in copies]
        fake.ledger.wait_for_calls("token")
        while len(site.named("finch.callback.joined")) < 7:
            threading.Event().wait(0.01)
        gate.set()

    assert len({each.result().location for each in answers}) == 1
    assert "finch=connected" in answers[0].result().location
    assert fake.ledger.calls("token") == 1


def test_claim_duplicate_beyond_the_patience_is_told_to_wait(
    fake: FakeFinch, site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "WAIT_SECONDS", 0.1)
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    copy = Browser(site, dict(browser.cookies))

    with ThreadPoolExecutor(1) as pool:
        winner = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        waiting = copy.get(callback)
        gate.set()

    assert waiting.status == 202
    assert "finch=connected" in winner.result().location
    assert fake.ledger.calls("token") == 1


def test_claim_same_state_with_another_code_is_refused(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location()
    first, second = fake.allow(location), fake.allow(location)
    fake.script("token", Behaviour.error(400, name="invalid_grant_error"))
    browser.get(first)

    answer = browser.get(second)

    assert answer.status == 400
    assert site.events[-1].reason == "code_mismatch"
    assert fake.ledger.presented(code_of(second)) == 0


def test_claim_same_code_in_another_flow_is_refused(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    browser.get(callback)
    stranger = Browser(site)
    state = stranger.location("umbrella").partition("&state=")[2]

    answer = stranger.get(f"{CALLBACK}?code={code_of(callback)}&state={state}")

    assert answer.status == 400
    assert site.events[-1].reason == "already_used"
    assert fake.ledger.presented(code_of(callback)) == 1


def test_claim_killed_before_the_exchange_is_reported_once_after_the_lease(
    worker: Campaign,
) -> None:
    presented, reports = worker.figures.presented, worker.reports

    answer = worker.answered("sendto:signal=KILL:when=1")

    assert answer == ""
    assert worker.reports == reports + 1
    assert worker.figures.presented == presented
