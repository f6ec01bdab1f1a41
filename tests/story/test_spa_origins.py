"""A page on another origin of the same site: exact origins, and for these alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finch_middleware import Customer, Response
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, NAVIGATION, Answer, Browser, Site
from tests.story.oracle import tokens_of

# Nothing here depends on the kind of storage.
pytestmark = pytest.mark.parametrize("storage_options", ["memory"], indirect=True)

APP = "https://app.example.com"
BEGIN = "/connect-payroll"
OTHERS = [
    "null",
    "https://app.example.com.evil.example",
    "https://evil.app.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com/",
    "HTTPS://app.example.com",
    "",
]


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
    fake: FakeFinch, make_site: Callable[..., Site]
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


@pytest.mark.parametrize("origin", OTHERS)
def test_t26_no_other_origin_begins_or_hands_over_a_code(
    fake: FakeFinch, make_site: Callable[..., Site], origin: str
) -> None:
    site = make_site(**options())
    browser = Browser(site)
    opened = begun(browser).json
    site.secrets.add(opened["state"])
    handed = fake.allow_embedded(opened["session_id"], state=opened["state"])

    refused = [begun(browser, origin), browser.fetch(handed, **from_page(origin))]

    assert [answer.status for answer in refused] == [403, 403]
    assert fake.ledger.calls("token") == 0
    assert fake.ledger.calls("sessions") == 1
    assert not any("Access-Control-Allow-Origin" in answer.headers for answer in refused)


@pytest.mark.parametrize("path", [CALLBACK, BEGIN])
def test_a_preflight_is_answered_for_a_named_origin(
    make_site: Callable[..., Site], path: str
) -> None:
    site = make_site(**options())
    asked = from_page(**{"Access-Control-Request-Method": "POST"})

    named = Browser(site).request("OPTIONS", path, headers=asked)
    other = Browser(site).request("OPTIONS", path, headers={**asked, "Origin": OTHERS[1]})

    assert named.status == other.status == 204
    assert named.headers["Access-Control-Allow-Origin"] == APP
    assert named.headers["Access-Control-Allow-Methods"] == "POST"
    assert named.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert not [name for name in other.headers if name.startswith("Access-Control")]


def test_no_origin_is_named_by_default(make_site: Callable[..., Site]) -> None:
    answer = Browser(make_site()).request("OPTIONS", CALLBACK, headers=from_page())

    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert "Origin" not in (answer.headers["Vary"] or "")


def test_a_redirect_returns_to_a_named_origin(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site(**options())
    browser = Browser(site)
    pressed = {**NAVIGATION, "Sec-Fetch-Site": "same-site", "Origin": APP}

    opened = browser.request("POST", BEGIN, headers=pressed, body=b"")
    answer = browser.get(fake.allow(opened.location))

    assert answer.location.startswith(f"{APP}/settings?tab=payroll&finch=connected&finch_ref=")
    assert answer.location.endswith("#top")


def test_a_flow_begun_before_an_origin_was_taken_back_returns_to_the_root(
    fake: FakeFinch, make_site: Callable[..., Site]
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
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site(**options(render=lambda outcome, request: Response("own")))
    browser = Browser(site)

    answer = browser.fetch({"code": "c"}, **from_page())

    assert answer.text == "own"
    assert answer.headers["Access-Control-Allow-Origin"] == APP
