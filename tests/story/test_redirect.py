"""The redirect flow over real HTTP, on every storage."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from finch_middleware import Connected, Repeated
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, SAME_ORIGIN_FETCH, Browser, Site
from tests.story.oracle import code_of, exchanges, tokens_of

both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


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


@both_ways
def test_the_exchange_sends_exactly_the_configured_redirect_uri(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())

    browser.get(f"{callback}&embedded=true&flow=embedded&redirect_uri=https://evil.example/")

    assert exchanges(fake) == [
        {
            "client_id": fake.client_id,
            "client_secret": fake.client_secret,
            "code": code_of(callback),
            "redirect_uri": site.origin + CALLBACK,
        }
    ]
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_no_header_of_the_callback_changes_what_finch_or_the_browser_is_told(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())

    answer = browser.get(
        callback,
        **{"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=e"},
        Referer="https://evil.example/",
        Host="evil.example",
    )

    assert answer.location.startswith("/settings?finch=connected")
    assert exchanges(fake)[0]["redirect_uri"] == site.origin + CALLBACK


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
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())

    answer = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert answer.status == 200
    assert answer.json["outcome"] == "connected"
    assert answer.json["retry"] == "none"
    assert answer.json["return_to"] == "/settings"
    assert answer.json["reference"] == site.events[0].reference
    assert answer.json["connection_id"] == fake.ledger.codes[0].connection_id
    assert not set(fake.ledger.tokens) & set(answer.text.split('"'))


@both_ways
def test_require_state_spends_nothing_on_a_return_without_one(
    fake: FakeFinch, make_site: Callable[..., Site], echo_state: bool
) -> None:
    site = make_site(require_state=True)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    answer = browser.get(callback)

    assert answer.status == (303 if echo_state else 400)
    assert fake.ledger.presented(code_of(callback)) == (1 if echo_state else 0)
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    if not echo_state:
        assert [event.reason for event in site.events] == ["no_state"]
        assert "We could not verify this connection" in answer.text


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


def test_what_was_not_consented_to_is_reported(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(products=["employer:company", "payment"]))

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert len(site.named("finch.products.fewer")) == 1
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.products == ("employer:company", "payment")


def test_an_older_prefix_of_a_product_counts_as_the_product(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(products=["employer:company", "employer:directory"]))

    browser.get(callback)

    assert site.named("finch.connection.stored")
    assert not site.named("finch.products.fewer")


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


def test_a_picture_on_some_page_spends_no_code(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    image = {"Accept": "image/*", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}

    refused = browser.request("GET", callback, headers={**image, "Sec-Fetch-Site": "same-site"})
    answer = browser.get(callback)

    assert refused.status == 403
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1
