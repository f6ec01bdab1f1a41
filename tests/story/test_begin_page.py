"""A flow that begins without a view of the application: the begin path."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import Customer, UsageError
from finch_middleware.errors import SchemaMismatch
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import NAVIGATION, SAME_ORIGIN_FETCH, Answer, Browser, MakeSite, Site
from tests.story.oracle import tokens_of

BEGIN = "/connect-payroll"
ACME = Customer(id="acme", name="Acme Inc.", email="payroll@acme.example")
PRESSED = {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}
POSTED = {"REQUEST_METHOD": "POST", "HTTP_SEC_FETCH_SITE": "same-origin"}


@pytest.fixture
def begin_site(make_site: MakeSite) -> Callable[..., Site]:
    """Opens a site whose begin path asks for *customer*."""

    def make(customer: Any = ACME, **options: Any) -> Site:
        return make_site(begin_path=BEGIN, customer_of=lambda request: customer, **options)

    return make


def press(browser: Browser, **headers: str) -> Answer:
    return browser.request("POST", BEGIN, headers={**PRESSED, **headers}, body=b"")


def test_the_button_may_lead_to_finch_and_nowhere_else(
    fake: FakeFinch, begin_site: Callable[..., Site]
) -> None:
    answer = Browser(begin_site()).get(BEGIN)

    policy = answer.headers["Content-Security-Policy"] or ""
    assert f"form-action 'self' {fake.connect_origin};" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_the_page_with_the_button_has_a_way_back(begin_site: Callable[..., Site]) -> None:
    answer = Browser(begin_site(return_to="/settings")).get(BEGIN)

    assert '<a class="quiet" href="/settings">Back to the application</a>' in answer.text


def test_a_press_of_the_button_connects_the_signed_in_customer(
    fake: FakeFinch, begin_site: Callable[..., Site]
) -> None:
    site = begin_site(return_to="/settings")
    browser = Browser(site)

    begun = press(browser)
    answer = browser.get(fake.allow(begun.location))

    assert begun.status == 303
    assert answer.location.startswith("/settings?finch=connected")
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    [asked] = [json.loads(r.body) for r in fake.ledger.requests if r.endpoint == "sessions"]
    assert asked["customer_name"] == "Acme Inc."
    assert asked["customer_email"] == "payroll@acme.example"


def test_a_script_gets_what_finchs_sdk_needs(
    fake: FakeFinch, begin_site: Callable[..., Site]
) -> None:
    site = begin_site()
    browser = Browser(site)
    headers = {**SAME_ORIGIN_FETCH, "Origin": site.origin}

    begun = browser.request("POST", BEGIN, headers=headers, body=b"").json
    site.secrets.add(begun["state"])
    returned = browser.fetch(fake.allow_embedded(begun["session_id"], state=begun["state"]))

    assert begun["connect_origin"] == fake.connect_origin
    assert returned.json["outcome"] == "connected"
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("login", [None, "", [], ()], ids=repr)
def test_without_a_login_the_person_is_asked_to_sign_in_and_gets_no_button(
    fake: FakeFinch, begin_site: Callable[..., Site], login: Any, method: str
) -> None:
    site = begin_site(login)

    answer = Browser(site).request(method, BEGIN, headers=PRESSED, body=b"")

    assert answer.status == 400
    assert "Please sign in again" in answer.text
    assert ">Sign in</a>" in answer.text
    assert "<button" not in answer.text
    assert fake.ledger.calls("sessions") == 0
    assert [event.reason for event in site.named("finch.begin.rejected")] == ["signed_out"]


@pytest.mark.parametrize(
    ("login", "message"),
    [
        ("acme", "one Customer"),
        ([ACME], "one Customer"),
        (["acme", "globex"], "one Customer"),
        (False, "not a bool"),
        ({"id": "acme"}, "not a dict"),
    ],
    ids=repr,
)
def test_a_login_that_is_no_customer_with_a_name_is_a_usage_error(
    begin_site: Callable[..., Site], login: Any, message: str
) -> None:
    site = begin_site(login)

    with pytest.raises(UsageError, match=message):
        site.finch.begin_page(POSTED)


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("PUT", 405), ("DELETE", 405)])
def test_other_methods_begin_nothing(
    fake: FakeFinch, begin_site: Callable[..., Site], method: str, status: int
) -> None:
    answer = Browser(begin_site()).request(method, BEGIN, headers=PRESSED)

    assert answer.status == status
    assert answer.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    assert fake.ledger.calls("sessions") == 0


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        (Behaviour.error(429), 503, "throttled"),
        (Behaviour.error(400, name="bad_request"), 500, "finch_refused"),
    ],
    ids=["throttled", "unknown product"],
)
def test_a_finch_that_is_unavailable_or_refuses_is_a_page_with_a_reference(
    fake: FakeFinch, begin_site: Callable[..., Site], behaviour: Behaviour, status: int, reason: str
) -> None:
    site = begin_site()
    fake.script("sessions", behaviour, times=None)

    answer = press(Browser(site))

    assert answer.status == status
    [event] = site.named("finch.begin.failed")
    assert event.reason == reason
    assert str(event.reference) in answer.text
    assert (f'<form method="post" action="{BEGIN}">' in answer.text) is (reason == "throttled")


@pytest.mark.parametrize("fetched", [False, True], ids=["browser", "script"])
def test_tables_that_do_not_fit_are_a_page_without_details_and_begin_nothing(
    fake: FakeFinch,
    begin_site: Callable[..., Site],
    faulty: FaultyStorage,
    tmp_path: Path,
    fetched: bool,
) -> None:
    site = begin_site(storage=faulty, spool=tmp_path / "spool")
    faulty.raises("check", SchemaMismatch("run finch-middleware create-tables"))
    headers = {**SAME_ORIGIN_FETCH, "Origin": site.origin} if fetched else {}

    answer = press(Browser(site), **headers)

    assert answer.status == 503
    [event] = site.named("finch.begin.failed")
    assert (event.level, event.reason) == (logging.ERROR, "schema_mismatch")
    assert str(event.reference) in answer.text
    assert "create-tables" not in answer.text
    assert not fetched or answer.json["reason"] == "storage_unavailable"
    assert (fake.ledger.calls("sessions"), site.errors) == (0, [])


def test_a_begin_page_without_customer_of_is_a_usage_error(site: Site) -> None:
    with pytest.raises(UsageError, match="customer_of"):
        site.finch.begin_page(POSTED)


def test_other_paths_reach_the_application(begin_site: Callable[..., Site]) -> None:
    site = begin_site()

    answers = [Browser(site).get(path) for path in (f"{BEGIN}/", "/connect-payrol", "/")]

    assert [answer.text for answer in answers] == ["the application"] * 3
