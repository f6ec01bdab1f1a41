"""A claim whose commit lands after its request has ended."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from finch_middleware import duplicates
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import CALLBACK, Browser, Site
from tests.story.oracle import code_of


def test_another_browser_does_not_free_a_claim_that_was_given_up(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    first, other = Browser(faulty_site), Browser(faulty_site)
    callback = fake.allow(first.location())
    state = parse_qs(urlsplit(other.location()).query)["state"][0]
    faulty.cut("claim")
    faulty.down("attempt", times=1)

    refused = first.get(callback)
    stolen = other.get(f"{CALLBACK}?code={code_of(callback)}&state={state}")

    assert refused.status == 503
    assert stolen.status == 400
    assert fake.ledger.calls("token") == 0


def test_what_was_given_up_is_remembered_within_bounds(
    fake: FakeFinch,
    faulty_site: Site,
    faulty: FaultyStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "ABANDONED_LIMIT", 1)
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    faulty.down("claim", times=2)

    refusals = [browser.get(callback).status for _ in range(2)]
    answer = browser.get(callback)

    assert refusals == [503, 503]
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_what_was_released_is_remembered_within_bounds(
    fake: FakeFinch, site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "RELEASED_LIMIT", 1)
    callback = fake.allow(browser.location())
    fake.script("token", *[Behaviour.error(402, name="payment_required")] * 2)

    refusals = [browser.get(callback).status for _ in range(2)]
    answer = browser.get(callback)

    assert refusals == [503, 503]
    assert "finch=connected" in answer.location
    assert len(site.finch._callback._duplicates.race._released) == 1
