"""What faults leave behind: a dead worker's attempt, a token in quarantine, one in the spool."""

from __future__ import annotations

from typing import Any

from finch_middleware.attempts import Attempt
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, Site
from tests.story.oracle import attempt_of, code_of


def left_behind(fake: FakeFinch, site: Site, faulty: FaultyStorage) -> str:
    """The code of an attempt whose worker died after Finch had minted the token."""
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.reset(processed=True))
    faulty.down("settle", times=1)
    browser.get(callback)
    site.events.clear()
    return code_of(callback)


def quarantined(fake: FakeFinch, site: Site, **answer: Any) -> str:
    """The code of a return that Finch answered so, where that is not the customer's who began."""
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(**answer))
    assert browser.get(callback).status == 403
    return code_of(callback)


def spooled(fake: FakeFinch, site: Site, faulty: FaultyStorage, customer_id: str) -> str:
    """The code of a return whose token had to go to the spool."""
    browser = Browser(site)
    callback = fake.allow(browser.location(customer_id))
    faulty.down("settle", times=1)
    assert "finch=finishing" in browser.get(callback).location
    return code_of(callback)


def standing(site: Site, fake: FakeFinch, code: str) -> Attempt:
    attempt = attempt_of(site, fake, code)
    assert attempt is not None
    return attempt
