"""Clocks that were set back, and requests that took too long before the exchange."""

from __future__ import annotations

from datetime import timedelta

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.asking import StillClock
from tests.internals import exchange_times, time_before_the_exchange
from tests.site import Browser, Site


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(6.0, 20.0), (-3.0, 17.0), (-60.0, 3.0)],
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
    StillClock(monkeypatch)  # this machine itself takes no time

    browser.get(callback)

    assert allowed == [timedelta(seconds=seconds)]
