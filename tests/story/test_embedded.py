"""The embedded flow: Finch's SDK in the page, and the page's own script."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, NAVIGATION, SAME_ORIGIN_FETCH, Answer, Browser, MakeSite, Site
from tests.story.oracle import exchanges, tokens_of


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    site = make_site()
    site.opening["flow"] = "embedded"
    return site


def by_json(browser: Browser, fields: dict[str, str]) -> Answer:
    return browser.fetch(fields)


def by_form(browser: Browser, fields: dict[str, str]) -> Answer:
    return browser.fetch(fields, form=True)


def by_get(browser: Browser, fields: dict[str, str]) -> Answer:
    return browser.request("GET", f"{CALLBACK}?{urlencode(fields)}", headers=SAME_ORIGIN_FETCH)


by_script = pytest.mark.parametrize("hand_over", [by_json, by_form, by_get])
HandOver = Callable[[Browser, dict[str, str]], Answer]


def test_the_page_gets_what_the_sdk_needs(fake: FakeFinch, site: Site, browser: Browser) -> None:
    answer = browser.begin("acme")

    [session] = fake.ledger.sessions
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json.pop("state")
    assert answer.json == {
        "session_id": session.session_id,
        "connect_url": f"{fake.connect_origin}/authorize?session={session.session_id}",
        "connect_origin": fake.connect_origin,
        "state": answer.json["state"],
    }
    assert "redirect_uri" not in session.fields
    assert len(browser.cookies) == 1


@by_script
def test_a_code_handed_over_by_the_page_is_stored(
    fake: FakeFinch, site: Site, browser: Browser, hand_over: HandOver
) -> None:
    opened = browser.embedded("acme")
    handed = fake.allow_embedded(opened["session_id"], state=opened["state"])

    answer = hand_over(browser, handed)

    assert answer.status == 200
    [event] = site.named("finch.connection.stored")
    assert answer.json == {
        "outcome": "connected",
        "message": answer.json["message"],
        "reference": event.reference,
        "retry": "none",
        "return_to": "/settings",
        "connection_id": fake.ledger.codes[0].connection_id,
    }
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert exchanges(fake) == [
        {"client_id": fake.client_id, "client_secret": fake.client_secret, "code": handed["code"]}
    ]


def test_a_form_that_the_browser_sends_is_answered_with_a_redirect(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    opened = browser.embedded()
    handed = fake.allow_embedded(opened["session_id"], state=opened["state"])

    answer = browser.fetch(handed, form=True, **{**NAVIGATION, "Sec-Fetch-Site": "same-origin"})

    assert answer.status == 303
    assert answer.location.startswith("/settings?finch=connected&finch_ref=")
