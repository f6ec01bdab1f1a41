"""A page on another origin of the same site: exact origins, and for these alone."""

from __future__ import annotations

from typing import Any

from finch_middleware import Customer, Response
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, NAVIGATION, Answer, Browser, MakeSite
from tests.story.oracle import tokens_of

APP = "https://app.example.com"
BEGIN = "/connect-payroll"


def options(**more: Any) -> dict[str, Any]:
    acme = Customer(id="acme", name="Acme Inc.")
    return {
        "spa_origins": [APP],
        "begin_path": BEGIN,
        "customer_of": lambda request: acme,
        "return_to": f"{APP}/settings?tab=payroll#top",
        **more,
    }


def from_page(origin: str = APP, **more: str) -> dict[str, str]:
    return {"Origin": origin, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", **more}


def begun(browser: Browser, origin: str = APP) -> Answer:
    return browser.request("POST", BEGIN, headers=from_page(origin), body=b"")


def test_a_page_of_a_named_origin_connects_and_may_read_the_answers(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    site = make_site(**options())
    browser = Browser(site)

    opened = begun(browser)
    site.secrets.add(opened.json["state"])
    handed = fake.allow_embedded(opened.json["session_id"], state=opened.json["state"])
    answer = browser.fetch(handed, **from_page())

    assert answer.json["outcome"] == "connected"
    assert answer.json["return_to"] == f"{APP}/settings?tab=payroll#top"
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    for each in (opened, answer):
        assert each.headers["Access-Control-Allow-Origin"] == APP
        assert each.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in (each.headers["Vary"] or "")


def test_a_redirect_returns_to_a_named_origin(fake: FakeFinch, make_site: MakeSite) -> None:
    site = make_site(**options())
    browser = Browser(site)
    pressed = {**NAVIGATION, "Sec-Fetch-Site": "same-site", "Origin": APP}

    opened = browser.request("POST", BEGIN, headers=pressed, body=b"")
    answer = browser.get(fake.allow(opened.location))

    assert answer.location.startswith(f"{APP}/settings?tab=payroll&finch=connected&finch_ref=")
    assert answer.location.endswith("#top")


def test_a_flow_begun_before_an_origin_was_taken_back_returns_to_the_root(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    before, after = (
        make_site(**options()),
        make_site(redirect_uri="http://localhost/finch/callback"),
    )
    browser = Browser(before)
    opened = browser.request("POST", BEGIN, headers={**NAVIGATION, "Origin": APP}, body=b"")
    callback = fake.allow(opened.location)

    browser.site = after
    answer = browser.request("GET", CALLBACK + "?" + callback.partition("?")[2], headers=NAVIGATION)

    assert answer.status < 500
    assert APP not in answer.location + answer.text


def test_the_applications_own_answer_may_be_read_there_too(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    site = make_site(**options(render=lambda outcome, request: Response("own")))
    browser = Browser(site)

    answer = browser.fetch({"code": "c"}, **from_page())

    assert answer.text == "own"
    assert answer.headers["Access-Control-Allow-Origin"] == APP
