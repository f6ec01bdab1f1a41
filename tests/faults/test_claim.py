"""Claim: the first write, before which no code may be spent."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.crash_campaign import Campaign
from finch_middleware.attempts import AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faults import troubles
from tests.faulty_storage import FaultyStorage
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.site import CALLBACK, Answer, Browser, MakeSite, Site
from tests.storage.servers import stopped
from tests.storages import ServerOf, StorageOn
from tests.story.oracle import attempt_of, code_of, same, tokens_of
from tests.story.ways import another, both_ways
from tests.waiting import wait_until


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


def refused_at_the_claim(answer: Answer, site: Site) -> bool:
    seen = answer.status, answer.headers["Retry-After"], site.events[0].name
    return seen == (503, "5", "finch.storage.unavailable")


@both_ways
def test_claim_storage_down_leaves_the_code_unspent_and_a_reload_connects(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    faulty.down("claim", times=1)

    refused, answer = browser.get(callback), browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert 'href=""' in refused.text
    assert str(site.events[0].reference) in refused.text
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_claim_storage_down_at_a_reload_is_reported_and_the_next_reload_succeeds(
    browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    first = browser.get(callback)
    faulty.down("attempt", "claim", times=1)

    unavailable, again = browser.get(callback), browser.get(callback)

    assert unavailable.status == 503
    assert same(first, again)


def test_claim_storage_down_for_an_unreadable_attempt_spends_nothing(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    for method in ("claim", "attempt"):
        faulty.raises(method, StorageUnavailable("unreadable"))

    refused, answer = browser.get(callback), browser.get(callback)

    assert refused.status == 503
    assert site.events[0].reason == "unreadable"
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        ("postgresql", troubles.gone),
        ("postgresql", troubles.postgresql_read_only),
        ("mysql", troubles.gone),
        ("mysql", troubles.mysql_read_only),
        ("redis", troubles.gone),
        ("redis", troubles.redis_without_replicas),
        ("redis", troubles.redis_full),
        ("postgresql", troubles.postgresql_locked),
        ("mysql", troubles.mysql_locked),
        ("redis", stopped),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
@pytest.mark.usefixtures("usually_patient")
def test_claim_storage_down_or_hanging_on_a_server_spends_nothing_and_a_reload_connects(
    fake: FakeFinch,
    make_site: MakeSite,
    storage_on: StorageOn,
    server_of: ServerOf,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    trouble: troubles.Trouble,
) -> None:
    server = server_of(kind)
    url = troubles.mysql_application(server) if kind == "mysql" else None
    site = make_site(storage=storage_on(server, url=url), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with trouble(server):
        refused = browser.get(callback)
    wait_for_databases(PATIENCE_SECONDS, put=monkeypatch.setattr)
    presented = fake.ledger.presented(code_of(callback))
    answer = browser.get(callback)

    assert refused_at_the_claim(refused, site)
    assert presented == 0
    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_claim_storage_hangs_and_its_late_claim_does_not_bar_the_reload(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    faulty.cut("claim")
    faulty.down("attempt", times=1)

    refused = browser.get(callback)
    left = attempt_of(site, fake, code_of(callback))
    answer = browser.get(callback)

    assert refused.status == 503
    assert left is not None
    assert left.state is AttemptState.CLAIMED
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_claim_storage_hangs_and_another_browser_does_not_release_its_late_claim(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    thief = Browser(site)
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


@pytest.mark.usefixtures("remembers_one")
@pytest.mark.parametrize("unspent", ["given up", "released"])
def test_claim_storage_hangs_and_what_a_process_remembers_of_it_has_a_bound(
    fake: FakeFinch, browser: Browser, callback: str, faulty: FaultyStorage, unspent: str
) -> None:
    if unspent == "given up":
        faulty.down("claim", times=2)
    else:
        fake.script("token", *[Behaviour.error(402, name="payment_required")] * 2)

    refusals = [browser.get(callback).status for _ in range(2)]
    answer = browser.get(callback)

    assert refusals == [503, 503]
    assert "finch=connected" in answer.location


@pytest.mark.parametrize(
    "faults",
    [["pwrite64:error=ENOSPC:when=1+"], ["fdatasync:error=EIO:when=1", "fsync:error=EIO:when=1"]],
    ids=["disk full", "sync error"],
)
def test_claim_disk_full_or_sync_error_spends_nothing_and_the_database_opens(
    worker: Campaign, faults: list[str]
) -> None:
    presented = worker.figures.presented

    answer = worker.answered(*faults)

    assert answer == "503 "
    # By the reload that the campaign makes; the worker presented none.
    assert worker.figures.presented == presented + 1
    assert not worker.figures.faults


@pytest.mark.parametrize("fault", ["cut", "twice"])
def test_claim_commit_unknown_recognises_its_own_claim(
    fake: FakeFinch, browser: Browser, callback: str, faulty: FaultyStorage, fault: str
) -> None:
    getattr(faulty, fault)("claim")

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_claim_commit_unknown_is_not_released_by_a_second_click(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    clicks: list[Future[Answer]] = []

    def click_again() -> None:
        clicks.append(pool.submit(another(browser).get, callback))
        wait_until(lambda: clicks[0].done() or site.named("finch.callback.joined"))

    faulty.cut("claim")
    faulty.after("attempt", click_again)

    with ThreadPoolExecutor(1) as pool:
        answers = [browser.get(callback), *(each.result() for each in clicks)]

    assert [answer.status for answer in answers] == [303, 303]
    assert fake.ledger.calls("token") == 1


def test_claim_killed_before_the_exchange_is_reported_once_after_the_lease(
    worker: Campaign,
) -> None:
    presented, reports = worker.figures.presented, worker.reports

    answer = worker.answered("sendto:signal=KILL:when=1")

    assert answer == ""
    assert worker.reports == reports + 1
    assert worker.figures.presented == presented
