"""The redirect flow over real HTTP."""

from __future__ import annotations

import logging

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import Browser, Site
from tests.storages import every_storage
from tests.story.ways import both_ways


@every_storage
@both_ways
def test_an_allowed_connection_is_stored_and_read_back(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location("acme")

    answer = browser.get(fake.allow(location))

    assert answer.status == 303
    assert answer.location.startswith("/settings?finch=connected&finch_ref=")
    [connection] = site.finch.connections.for_customer("acme")
    assert [connection.access_token.reveal()] == list(fake.ledger.tokens)
    assert connection.connection_id == fake.ledger.codes[0].connection_id
    assert connection.provider_id == "gusto"
    assert connection.products == ("company", "directory")


def test_the_log_has_one_line_with_the_reference_of_the_page(
    fake: FakeFinch, site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    location = browser.location()

    answer = browser.get(fake.allow(location))

    [event] = site.events
    assert event.name == "finch.connection.stored"
    assert event.level == logging.INFO
    assert event.reference is not None
    assert answer.location.endswith(f"finch_ref={event.reference}")
    assert event.connection_id == fake.ledger.codes[0].connection_id
    assert event.customer_ids == ("acme",)
    assert event.request_id is not None
    ours = [r.getMessage() for r in caplog.records if r.name == "finch_middleware"]
    [line] = [line for line in ours if not line.startswith("finch.session.")]
    assert line.startswith("finch.connection.stored")
    assert event.reference in line


@both_ways
def test_connecting_again_replaces_the_token_of_the_same_connection(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location()))
    [before] = site.finch.connections.for_customer("acme")

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("reauthenticate") == 1
    [after] = site.finch.connections.for_customer("acme")
    assert after.connection_id == before.connection_id
    assert after.access_token.reveal() == fake.ledger.tokens[1]
    assert after.attempt_id != before.attempt_id
    [replaced] = site.named("finch.token.replaced")
    assert replaced.connection_id == before.connection_id


def test_an_opened_session_is_reported_with_finchs_request_id(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location()))

    browser.begin()

    reported = [(event.name, event.customer_ids, event.connection_id) for event in site.openings]
    assert reported == [
        ("finch.session.opened", ("acme",), None),
        ("finch.session.reauthenticates", ("acme",), fake.ledger.codes[0].connection_id),
        ("finch.session.opened", ("acme",), None),
    ]
    assert len({event.request_id for event in site.openings} - {None}) == 2
