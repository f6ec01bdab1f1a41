"""Clocks that were set back, and requests that took too long before the exchange."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import callback as flow
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
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


def test_a_token_that_replaces_another_of_its_connection_is_told(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock
) -> None:
    browser.get(fake.allow(browser.location()))
    clock.move(timedelta(minutes=5))
    site.events.clear()

    browser.get(fake.allow(browser.location()))

    told = [(event.name, event.level) for event in site.events]
    assert told == [
        ("finch.connection.stored", logging.INFO),
        ("finch.token.replaced", logging.INFO),
    ]
    assert site.events[1].connection_id == fake.ledger.codes[0].connection_id
    assert not site.named("finch.clock.behind")


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(0.0, 12.0), (-3.0, 9.0), (-60.0, 3.0)],
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
    allowed: list[timedelta] = []
    exchange = site.finch._callback._exchange._client.exchange
    monkeypatch.setattr(flow, "BEFORE_THE_EXCHANGE", timedelta(seconds=before or 6.0))

    def exchanged(*given: Any, within: timedelta, **named: Any) -> Any:
        allowed.append(within)
        return exchange(*given, within=within, **named)

    monkeypatch.setattr(site.finch._callback._exchange._client, "exchange", exchanged)

    browser.get(fake.allow(browser.location()))

    assert [each.total_seconds() for each in allowed] == [pytest.approx(seconds, abs=0.5)]


def test_an_exchange_that_may_not_take_long_is_not_given_longer(
    fake: FakeFinch, make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(exchange_deadline=timedelta(seconds=1))
    browser = Browser(site)
    callback = fake.allow(browser.location())
    monkeypatch.setattr(flow, "BEFORE_THE_EXCHANGE", -timedelta(seconds=60))
    fake.script("token", Behaviour.delay(1.5))

    answer = browser.get(callback)

    assert answer.status == 502
    assert fake.ledger.presented(code_of(callback)) == 1


def test_customers_that_cannot_be_looked_up_leave_the_code_unspent(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    faulty.down("for_customer", times=1)

    refused, answer = browser.get(callback), browser.get(callback)

    assert refused.status == 503
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1
