"""Two requests with one code: the second waits for the first, or for the end of its lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest

from finch_middleware import duplicates as repeats
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import CALLBACK, SAME_ORIGIN_FETCH, Answer, Browser, Site
from tests.story.oracle import code_of, same, tokens_of

both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losers of a claim wait for a moment only."""
    monkeypatch.setattr(repeats, "WAIT_SECONDS", 0.1)


@both_ways
def test_a_duplicate_waits_for_the_first_and_gets_its_answer(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        second = pool.submit(Browser(site, dict(browser.cookies)).get, callback)
        _wait_for(site, "finch.callback.joined")
        gate.set()

    assert same(first.result(), second.result())
    assert "finch=connected" in first.result().location
    assert fake.ledger.calls("token") == 1


@pytest.mark.usefixtures("impatient")
def test_who_has_waited_long_enough_gets_a_page_that_reloads_itself(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    other = Browser(site, dict(browser.cookies))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        waiting = other.get(callback)
        script = other.request("GET", callback, headers=SAME_ORIGIN_FETCH)
        gate.set()
    reloaded = other.get(callback)

    assert waiting.status == 202
    assert waiting.headers["Refresh"] == "2"
    assert "Almost done" in waiting.text
    assert script.status == 202
    assert (script.json["outcome"], script.json["retry"]) == ("finishing", "reload")
    assert same(reloaded, first.result())
    assert fake.ledger.calls("token") == 1


def test_who_finds_all_places_taken_does_not_wait(
    fake: FakeFinch, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "WAITING_THREADS", 1)
    site = make_site()
    browser = Browser(site)
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        second = pool.submit(Browser(site, dict(browser.cookies)).get, callback)
        _wait_for(site, "finch.callback.joined")
        third = Browser(site, dict(browser.cookies)).get(callback)
        gate.set()

    assert third.status == 202
    assert same(first.result(), second.result())


def test_a_duplicate_may_try_itself_when_the_first_could_not_reach_finch(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.error(402, name="payment_required").held(gate))
    other = Browser(site, dict(browser.cookies))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        second = pool.submit(other.get, callback)
        _wait_for(site, "finch.callback.joined")
        gate.set()
    third = other.get(callback)

    [event] = site.named("finch.exchange.finch_unavailable")
    assert [each.result().status for each in (first, second)] == [503, 503]
    assert all(str(event.reference) in each.result().text for each in (first, second))
    assert "finch=connected" in third.location
    assert fake.ledger.presented(code_of(callback)) == 2


@pytest.mark.usefixtures("impatient")
def test_an_attempt_whose_owner_went_away_is_reported_once(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.reset(processed=True))
    faulty.down("settle", times=1)  # as a worker does that is killed in the middle
    browser.get(callback)

    early = browser.get(callback)
    clock.move(timedelta(seconds=61))
    late = [browser.request("GET", callback, headers=SAME_ORIGIN_FETCH) for _ in range(2)]

    assert early.status == 202
    assert late[0].status == 502
    assert late[0].json["reason"] == "interrupted"
    assert late[0].json["retry"] == "restart"
    assert same(*late)
    assert len(faulty_site.named("finch.attempt.interrupted")) == 1
    assert fake.ledger.calls("token") == 1


def test_an_owner_that_was_only_slow_still_keeps_its_token(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock
) -> None:
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    other = Browser(site, dict(browser.cookies))

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        clock.move(timedelta(seconds=61))
        interrupted = other.get(callback)
        gate.set()
    reloaded = other.get(callback)

    assert interrupted.status == 502
    assert "finch=connected" in slow.result().location
    assert same(slow.result(), reloaded)
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_an_owner_that_settles_just_in_time_is_not_reported(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    other = Browser(faulty_site, dict(browser.cookies))

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        clock.move(timedelta(seconds=61))
        faulty.before("settle", partial(_let_go, gate, slow))
        late = other.get(callback)

    assert same(late, slow.result())
    assert "finch=connected" in late.location
    assert not faulty_site.named("finch.attempt.interrupted")


def test_a_stranger_cannot_wait_for_an_answer_that_is_not_his(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("acme"))
    stranger = Browser(site)
    stranger.location("umbrella")
    stranger.location("acme")
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        answer = stranger.get(f"{CALLBACK}?code={code_of(callback)}")
        gate.set()

    assert answer.status == 400
    assert "finch=connected" in first.result().location
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["already_used"]


@pytest.mark.parametrize("echo_state", [False], ids=["no-state"])
def test_a_duplicate_from_another_customer_learns_nothing_in_the_end(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.location("umbrella")
    other = Browser(site, dict(browser.cookies))
    callback = fake.allow(browser.location("acme"))
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        second = pool.submit(other.get, callback)
        _wait_for(site, "finch.callback.joined")
        gate.set()

    assert "finch=connected" in first.result().location
    assert second.result().status == 400
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["already_used"]


def _let_go(gate: threading.Event, owner: Future[Answer]) -> None:
    gate.set()
    owner.result()


def _wait_for(site: Site, event: str) -> None:
    for _ in range(500):
        if site.named(event):
            return
        threading.Event().wait(0.01)
    raise TimeoutError(event)
