"""Two requests with one code: the second waits for the first, or for the end of its lease."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, Site
from tests.story.oracle import code_of, same, tokens_of
from tests.story.ways import (
    another,
    at_once,
    both_ways,
    by_script,
    connected,
    wait_for_event,
    while_finch_is_asked,
)

PAYMENT_REQUIRED = Behaviour.error(402, name="payment_required")


@both_ways
@pytest.mark.parametrize("behaviour", [Behaviour(), PAYMENT_REQUIRED], ids=["200", "402"])
def test_duplicates_wait_for_the_first_request_and_get_its_response(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, behaviour: Behaviour
) -> None:
    with (
        ThreadPoolExecutor(7) as pool,
        while_finch_is_asked(fake, browser, callback, behaviour) as first,
    ):
        others = [pool.submit(another(browser).get, callback) for _ in range(7)]
        wait_for_event(site, "finch.callback.joined", count=7)
        calls = fake.ledger.calls("token")
    reload = browser.get(callback)

    answers = [each.result() for each in (first, *others)]
    assert len({(each.status, each.location) for each in answers}) == 1
    # The reference is the same for all; the first event after those of joining has it.
    [reported, *_] = [e for e in site.events if e.name != "finch.callback.joined"]
    assert all(str(reported.reference) in each.location + each.text for each in answers)
    assert calls == 1
    # What Finch did not act on may be tried again with the same code.
    assert connected(reload)
    assert fake.ledger.presented(code_of(callback)) == (1 if connected(first.result()) else 2)


@pytest.mark.usefixtures("short_wait")
def test_a_duplicate_that_has_waited_long_enough_gets_a_page_that_reloads_itself(
    fake: FakeFinch, browser: Browser, callback: str
) -> None:
    other = another(browser)

    with while_finch_is_asked(fake, browser, callback) as first:
        waiting, script = other.get(callback), by_script(other, callback)
    reloaded = other.get(callback)

    assert waiting.status == 202
    assert waiting.headers["Refresh"] == "2"
    assert "Almost done" in waiting.text
    assert script.status == 202
    assert (script.json["outcome"], script.json["retry"]) == ("finishing", "reload")
    assert same(reloaded, first.result())
    assert fake.ledger.calls("token") == 1


@pytest.mark.usefixtures("short_wait")
def test_sixty_four_requests_at_once_get_the_same_failure(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    fake.script("token", Behaviour.reset(processed=True).after(0.3))

    answers = at_once([lambda: another(browser).get(callback)] * 64)

    assert fake.ledger.presented(code_of(callback)) == 1
    assert {each.status for each in answers} == {502}
    [event] = site.named("finch.exchange.ambiguous")
    assert all(str(event.reference) in each.text for each in answers)


@pytest.mark.usefixtures("short_wait")
def test_an_attempt_whose_worker_died_is_reported_once_after_its_lease(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.reset(processed=True))
    faulty.down("settle", times=1)  # as for a worker that is killed in the middle
    browser.get(callback)

    early = browser.get(callback)
    clock.move(timedelta(seconds=61))
    late = [by_script(browser, callback) for _ in range(2)]

    assert early.status == 202
    assert late[0].status == 502
    assert (late[0].json["reason"], late[0].json["retry"]) == ("interrupted", "restart")
    assert same(*late)
    assert len(faulty_site.named("finch.attempt.interrupted")) == 1
    assert fake.ledger.calls("token") == 1


def test_a_worker_that_was_only_slow_still_stores_its_token(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, clock: Clock
) -> None:
    other = another(browser)

    with while_finch_is_asked(fake, browser, callback) as slow:
        clock.move(timedelta(seconds=61))
        interrupted = other.get(callback)
    reloaded = other.get(callback)

    assert interrupted.status == 502
    assert connected(slow.result())
    assert same(slow.result(), reloaded)
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.parametrize("echo_state", [False], ids=["no-state"])
def test_a_duplicate_of_another_customer_is_refused_in_the_end(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.location("umbrella")
    other = another(browser)
    callback = fake.allow(browser.location("acme"))

    with (
        ThreadPoolExecutor(1) as pool,
        while_finch_is_asked(fake, browser, callback) as first,
    ):
        second = pool.submit(other.get, callback)
        wait_for_event(site, "finch.callback.joined")

    assert connected(first.result())
    assert second.result().status == 400
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["already_used"]
