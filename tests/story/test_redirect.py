"""The redirect flow over real HTTP."""

from __future__ import annotations

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
