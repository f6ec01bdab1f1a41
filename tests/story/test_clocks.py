"""Clocks that were set back, and requests that took too long before the exchange."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.internals import exchange_times, time_before_the_exchange
from tests.site import Browser, Site
from tests.story.oracle import code_of, tokens_of


def test_a_clock_that_was_set_back_does_not_bury_the_newer_token(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock
) -> None:
    clock.move(timedelta(hours=1))
    browser.get(fake.allow(browser.location()))
    clock.move(-timedelta(hours=1))

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]
    [event] = site.named("finch.clock.behind")
    assert (event.level, event.customer_ids) == (logging.WARNING, ("acme",))


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(6.0, 12.0), (-3.0, 9.0), (-60.0, 3.0)],
    ids=["in time", "three seconds late", "very late"],
)
def test_what_came_before_the_exchange_and_took_too_long_is_taken_from_its_time(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    before: float,
    seconds: float,
) -> None:
    callback = fake.allow(browser.location())
    allowed = exchange_times(monkeypatch, site)
    time_before_the_exchange(monkeypatch, before)

    browser.get(callback)

    [within] = allowed
    # Less by the time that this machine took, and never more.
    assert seconds - 2.5 <= within.total_seconds() <= seconds


def test_an_exchange_that_may_not_take_long_is_not_given_longer(
    fake: FakeFinch, make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(exchange_deadline=timedelta(seconds=1))
    browser = Browser(site)
    callback = fake.allow(browser.location())
    time_before_the_exchange(monkeypatch, -60)
    fake.script("token", Behaviour.delay(1.5))

    answer = browser.get(callback)

    assert answer.status == 502
    assert fake.ledger.presented(code_of(callback)) == 1
