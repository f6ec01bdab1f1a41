"""The redirect flow over real HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from finch_middleware import Connected, Repeated
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import SAME_ORIGIN_FETCH, Browser, Site
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


def test_the_log_says_once_what_the_page_refers_to(
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


def test_the_way_to_connect_carries_the_state_and_leaves_one_cookie(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    answer = browser.begin()

    assert answer.status == 303
    [session] = fake.ledger.sessions
    assert answer.location.startswith(
        f"{fake.connect_origin}/authorize?session={session.session_id}&state="
    )
    [cookie] = answer.headers.get_all("Set-Cookie") or []
    assert cookie.startswith("finch-")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=4200" in cookie
    assert "Path=/" in cookie


def test_a_script_gets_json_in_place_of_the_redirect(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    answer = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert answer.status == 200
    assert answer.json["outcome"] == "connected"
    assert answer.json["retry"] == "none"
    assert answer.json["return_to"] == "/settings"
    assert answer.json["reference"] == site.events[0].reference
    assert answer.json["connection_id"] == fake.ledger.codes[0].connection_id
    assert not set(fake.ledger.tokens) & set(answer.text.split('"'))


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


def test_two_providers_of_one_customer_are_two_connections(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    browser = Browser(site)
    first, second = browser.location(), browser.location()

    browser.get(fake.allow(first, provider="gusto"))
    browser.get(fake.allow(second, provider="rippling"))

    found = site.finch.connections.for_customer("acme")
    assert {each.provider_id for each in found} == {"gusto", "rippling"}
    assert {each.access_token.reveal() for each in found} == set(fake.ledger.tokens)


def test_an_outcome_carries_finchs_request_id_also_when_it_is_repeated(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    visit = browser.environ(fake.allow(browser.location()))

    first, again = site.finch.finish(dict(visit)), site.finch.finish(dict(visit))

    assert isinstance(first, Connected)
    assert isinstance(again, Repeated)
    assert site.events[0].request_id == first.request_id == again.first.request_id
    assert first.request_id is not None


def test_the_session_that_is_opened_is_told_with_finchs_request_id(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location()))

    browser.begin()

    told = [(event.name, event.customer_ids, event.connection_id) for event in site.openings]
    assert told == [
        ("finch.session.opened", ("acme",), None),
        ("finch.session.reauthenticates", ("acme",), fake.ledger.codes[0].connection_id),
        ("finch.session.opened", ("acme",), None),
    ]
    assert len({event.request_id for event in site.openings} - {None}) == 3
