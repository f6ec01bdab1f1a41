"""The employer declines or leaves: the person returns to the application, and no code is spent."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Browser, Site
from tests.story.oracle import nothing_stored, tokens_of
from tests.story.ways import both_ways


def denied(fake: FakeFinch, location: str) -> str:
    return fake.deny(location)


def closed(fake: FakeFinch, location: str) -> str:
    return fake.close(location)


def odd_error(fake: FakeFinch, location: str) -> str:
    return fake.deny(location).replace("access_denied", "%3Cscript%3Ealert(1)%3C/script%3E")


@both_ways
@pytest.mark.parametrize(
    ("decide", "reason"),
    [(denied, "access_denied"), (closed, "closed"), (odd_error, "error")],
    ids=["denied", "closed", "odd error"],
)
def test_a_no_leads_back_and_spends_nothing(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    decide: Callable[[FakeFinch, str], str],
    reason: str,
) -> None:
    location = browser.location()

    answer = browser.get(decide(fake, location))

    [event] = site.named("finch.callback.declined")
    assert (event.level, event.reason) == (logging.INFO, reason)
    assert answer.status == 303
    assert answer.location == f"/settings?finch=declined&finch_ref={event.reference}"
    assert fake.ledger.calls("token") == 0
    assert nothing_stored(site)


@both_ways
def test_an_employer_who_declined_may_still_allow(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location()
    browser.get(fake.deny(location))

    answer = browser.get(fake.allow(location))

    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_the_page_of_the_embedded_flow_may_report_a_no(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    site.opening["flow"] = "embedded"
    opened = browser.embedded()

    answer = browser.fetch({"error": "employer_connection_error", "state": opened["state"]})

    assert answer.status == 200
    assert answer.json == {
        "outcome": "declined",
        "message": answer.json["message"],
        "reference": site.named("finch.callback.declined")[0].reference,
        "retry": "restart",
        "return_to": "/settings",
    }
    assert fake.ledger.calls("token") == 0


@pytest.mark.parametrize("query", ["error=access_denied", "error=x&error_description=y", ""])
def test_a_no_to_nothing_is_refused(
    fake: FakeFinch, site: Site, browser: Browser, query: str
) -> None:
    answer = browser.get(f"{CALLBACK}?{query}")

    assert answer.status == 400
    assert "There is nothing to finish here" in answer.text
    assert [event.reason for event in site.named("finch.callback.rejected")] == ["unsolicited"]


@both_ways
def test_a_no_after_the_yes_changes_nothing(fake: FakeFinch, site: Site, browser: Browser) -> None:
    location = browser.location()
    browser.get(fake.allow(location))

    answer = browser.get(fake.deny(location))

    assert answer.status == 400
    assert [event.reason for event in site.named("finch.callback.rejected")] == ["unsolicited"]
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
