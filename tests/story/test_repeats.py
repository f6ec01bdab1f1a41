"""Reloads, the back button, a second tab: a code is presented once, and the answer is the same."""

from __future__ import annotations

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, Browser, Site
from tests.story.oracle import attempt_of, code_of, same, tokens_of
from tests.story.ways import both_ways


def test_the_ticket_of_an_ended_flow_stays_for_ten_minutes(
    fake: FakeFinch, browser: Browser, callback: str
) -> None:
    answer = browser.get(callback)

    [cookie] = answer.headers.get_all("Set-Cookie") or []
    assert "Max-Age=600" in cookie
    browser.cookies.clear()
    assert browser.get(callback).status == 400
    assert fake.ledger.calls("token") == 1


@both_ways
def test_a_second_code_for_an_ended_flow_is_not_presented(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location()
    browser.get(fake.allow(location))
    second = fake.allow(location)

    answer = browser.get(second)

    assert answer.status == 400
    assert fake.ledger.presented(code_of(second)) == 0
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["already_used"]


def test_a_second_code_cannot_take_a_flow_that_another_holds(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location()
    first, second = fake.allow(location), fake.allow(location)
    fake.script("token", Behaviour.error(400, name="invalid_grant_error"))
    browser.get(first)

    answer = browser.get(second)

    assert answer.status == 400
    assert "We already received a response" in answer.text
    assert fake.ledger.presented(code_of(second)) == 0
    [first_end] = site.named("finch.exchange.code_rejected")
    [rejected] = site.named("finch.callback.rejected")
    assert (rejected.reason, rejected.attempt_id) == ("code_mismatch", first_end.attempt_id)
    assert rejected.elapsed_ms is not None


@pytest.mark.parametrize("echo_state", [False], ids=["no-state"])
def test_an_ended_flow_is_taken_even_for_an_old_copy_of_its_ticket(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location()
    old_copy = Browser(site, dict(browser.cookies))
    browser.get(fake.allow(location))
    second = f"{fake.allow(location)}&state={location.partition('&state=')[2]}"

    answer = old_copy.get(second)

    assert answer.status == 400
    assert fake.ledger.presented(code_of(second)) == 0
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["code_mismatch"]


@both_ways
def test_a_code_that_another_browser_brought_is_not_presented_again(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    browser.get(callback)
    stranger = Browser(site)
    location = stranger.location("umbrella")
    own_state = location.partition("&state=")[2]

    answer = stranger.get(f"{CALLBACK}?code={code_of(callback)}&state={own_state}")

    assert answer.status == 400
    assert [e.reason for e in site.named("finch.callback.rejected")] == ["already_used"]
    assert fake.ledger.calls("token") == 1
    assert tokens_of(site, "umbrella") == []


@both_ways
def test_an_old_copy_of_a_spent_ticket_changes_nothing(
    fake: FakeFinch, browser: Browser, callback: str
) -> None:
    [(name, live)] = browser.cookies.items()
    first = browser.get(callback)
    spent = browser.cookies.pop(name)

    reloads = [
        browser.get(callback, Cookie=f"{name}={one}; {name}={other}")
        for one, other in ((live, spent), (spent, live))
    ]

    assert all(same(first, each) for each in reloads)
    assert fake.ledger.calls("token") == 1


@both_ways
def test_two_codes_of_one_customer_do_not_answer_for_each_other(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock
) -> None:
    first, second = browser.location("acme"), browser.location("acme")
    one, two = fake.allow(first), fake.allow(second, provider="rippling")

    answers = [browser.get(each) for each in (one, two, one, two)]

    assert same(answers[0], answers[2])
    assert same(answers[1], answers[3])
    assert answers[0].location != answers[1].location
    attempt = attempt_of(site, fake, code_of(one))
    assert attempt is not None
    assert attempt.state is AttemptState.STORED
    assert fake.ledger.calls("token") == 2
