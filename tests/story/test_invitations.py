"""A person who need not be signed in connects a payroll by an invitation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import CallbackRequest, Customer, UnknownConnection, UsageError
from finch_middleware.errors import KeyUnavailable, StorageUnavailable
from finch_middleware.testing import Behaviour, Clock, FakeFinch, add_connection
from tests.site import NAVIGATION, Answer, Browser, MakeSite, Site
from tests.story.oracle import tokens_of

INVITE = "/payroll/invitation"
PRESSED = {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}
DAY = timedelta(days=1)


@pytest.fixture
def invite_site(make_site: MakeSite) -> Callable[..., Site]:
    return lambda **options: make_site(invite_path=INVITE, brand="Northwind", **options)


def invited(site: Site, **changes: Any) -> str:
    """The path and query of a link for Acme."""
    given = {"customer_id": "acme", "customer_name": "Acme & Söhne", **changes}
    url = site.finch.invitation_url(**given)
    assert url.startswith(f"{site.origin}{INVITE}?invitation=fm1.")
    return url.removeprefix(site.origin)


def press(browser: Browser, link: str, **headers: str) -> Answer:
    return browser.request("POST", link, headers={**PRESSED, **headers}, body=b"")


@pytest.mark.parametrize("login", [False, True], ids=["no customer_of", "signed out"])
def test_an_invited_person_connects_without_a_login_and_arrives_on_a_page_of_ours(
    fake: FakeFinch, invite_site: Callable[..., Site], login: bool
) -> None:
    site = invite_site(**{"customer_of": lambda request: None} if login else {})
    link, browser = invited(site), Browser(site)

    shown = browser.get(link)
    begun = press(browser, link)
    returned = browser.get(fake.allow(begun.location))
    last = browser.get(returned.location)

    assert (shown.status, begun.status, returned.status) == (200, 303, 303)
    assert "Connect the payroll of Acme &amp; Söhne" in shown.text
    assert "to Northwind" in shown.text
    assert "company details, the list of employees" in shown.text
    assert returned.location.startswith(f"{INVITE}?finch=connected&finch_ref=")
    assert "The payroll is connected" in last.text
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    [asked] = [json.loads(r.body) for r in fake.ledger.requests if r.endpoint == "sessions"]
    assert (asked["customer_id"], asked["customer_name"]) == ("acme", "Acme & Söhne")


def test_its_page_changes_nothing_calls_nobody_and_gives_its_address_to_nobody(
    fake: FakeFinch, invite_site: Callable[..., Site]
) -> None:
    site = invite_site()
    browser, link = Browser(site), invited(site)

    answers = [browser.request(method, link, headers=NAVIGATION) for method in ("GET", "HEAD")]

    page = answers[0]
    assert [each.status for each in answers] == [200, 200]
    assert (browser.cookies, fake.ledger.requests) == ({}, ())
    assert re.findall(r'(?:href|src|action)="', page.text) == []
    assert page.headers["Referrer-Policy"] == "strict-origin"
    assert f"form-action 'self' {fake.connect_origin};" in str(
        page.headers["Content-Security-Policy"]
    )


def test_what_begin_takes_passes_along(fake: FakeFinch, invite_site: Callable[..., Site]) -> None:
    site = invite_site()
    given = {"products": ["company", "pay_statement"], "customer_email": "a@acme.test",
             "provider": "gusto", "manual": True, "return_to": "/thanks"}  # fmt: skip
    browser, link = Browser(site), invited(site, **given)

    page = browser.get(link)
    returned = browser.get(fake.allow(press(browser, link).location))

    [asked] = [json.loads(r.body) for r in fake.ledger.requests if r.endpoint == "sessions"]
    assert asked["integration"] == {"provider": "gusto", "auth_method": None}
    assert asked.items() >= {"products": given["products"], "manual": True}.items()
    assert asked["customer_email"] == "a@acme.test"
    assert "company details, pay statements of employees" in page.text
    assert returned.location.startswith("/thanks?finch=connected")


def test_a_link_for_a_connection_renews_it_with_its_own_products(
    fake: FakeFinch, invite_site: Callable[..., Site]
) -> None:
    site = invite_site()
    browser = Browser(site)
    fake.script("token", Behaviour.alter(products=["employer:payment", "plans"]))
    browser.get(fake.allow(browser.location("acme")))
    [before] = site.finch.connections.for_customer("acme")
    link = invited(site, connection_id=before.connection_id)

    page = browser.get(link)
    browser.get(fake.allow(press(browser, link).location))

    [after] = site.finch.connections.for_customer("acme")
    assert "payroll totals, retirement plans" in page.text
    assert (after.connection_id, after.obtained_at > before.obtained_at) == (
        before.connection_id,
        True,
    )
    assert fake.ledger.calls("sessions") == 1
    with pytest.raises(UnknownConnection):
        invited(site, customer_id="other", connection_id=before.connection_id)
    site.finch.connections.forget(before.connection_id, customer_id="acme")
    assert (browser.get(link).status, press(browser, link).status) == (410, 410)


@pytest.mark.parametrize(
    ("asks", "connected", "status"),
    [
        ({}, {}, 410),
        ({"single_use": False}, {}, 200),
        ({}, {"customer_id": "globex"}, 200),
        ({}, {"obtained_at": -DAY}, 200),
        ({"provider": "adp_run"}, {}, 200),
        ({"provider": "gusto"}, {}, 410),
    ],
    ids=["since", "for several", "another customer", "before", "another provider", "provider"],
)
def test_a_link_for_one_use_ends_with_a_connection_that_was_obtained_since(
    fake: FakeFinch,
    invite_site: Callable[..., Site],
    asks: dict[str, Any],
    connected: dict[str, Any],
    status: int,
) -> None:
    clock = Clock()
    site = invite_site(clock=clock)
    link, browser = invited(site, **asks), Browser(site)
    at = clock() + connected.get("obtained_at", timedelta(seconds=1))

    add_connection(site.finch, **{"customer_id": "acme", **connected, "obtained_at": at})

    assert browser.get(link).status == status
    assert press(browser, link).status == (303 if status == 200 else status)
    assert (fake.ledger.calls("sessions") == 0) is (status == 410)


def test_a_link_expires(fake: FakeFinch, invite_site: Callable[..., Site]) -> None:
    clock = Clock()
    site = invite_site(clock=clock)
    link, browser = invited(site), Browser(site)

    clock.move(14 * DAY)
    last = browser.get(link).status
    clock.move(timedelta(seconds=1))
    answers = [browser.get(link), press(browser, link)]

    assert last == 200
    assert [each.status for each in answers] == [410, 410]
    assert "This invitation has expired" in answers[0].text
    assert "ask the person who sent it for a new one" in answers[0].text
    assert fake.ledger.requests == ()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("connected", "The payroll is connected"),
        ("finishing", "almost connected"),
        ("declined", "was not completed"),
        ("other", "cannot be opened"),
        (None, "cannot be opened"),
    ],
)
def test_the_page_without_a_link_shows_the_end_to_an_invited_browser_alone(
    invite_site: Callable[..., Site], end: str | None, words: str
) -> None:
    site = invite_site()
    browser = Browser(site)
    press(browser, invited(site))
    address = INVITE + (f"?finch={end}" if end else "")

    assert words in browser.get(address).text
    assert "cannot be opened" in Browser(site).get(address).text


def test_whoever_is_signed_in_as_another_customer_cannot_use_a_link(
    fake: FakeFinch, invite_site: Callable[..., Site]
) -> None:
    login: list[Any] = [["globex", "acme"]]
    asked_of: list[str] = []

    def customer_of(request: CallbackRequest) -> Any:
        asked_of.append(request.method)
        return login[0]

    site = invite_site(customer_of=customer_of)
    link, browser = invited(site), Browser(site)
    location = press(browser, link).location

    login[0] = Customer(id="globex", name="Globex")
    answers = [browser.get(link), press(browser, link), browser.get(fake.allow(location))]

    assert [each.status for each in answers] == [400, 400, 400]
    assert all("signed in to a different company" in each.text for each in answers)
    assert (fake.ledger.calls("sessions"), fake.ledger.calls("token")) == (1, 0)
    assert asked_of == ["POST", "GET", "POST", "GET"]


def test_a_browser_keeps_five_flows_of_invitations(invite_site: Callable[..., Site]) -> None:
    site = invite_site()
    browser = Browser(site)
    lives = [timedelta(minutes=1), 90 * DAY, *[DAY] * 5]

    pressed = [press(browser, invited(site, valid_for=life)).status for life in lives]

    assert (pressed, len(browser.cookies)) == ([303] * 7, 5)


@pytest.mark.parametrize(
    ("behaviour", "title"),
    [
        (Behaviour.error(429), "Finch is very busy"),
        (Behaviour.error(400, name="bad_request"), "not set up yet"),
        (Behaviour.error(400, finch_code="connection_already_exists"), "not set up yet"),
    ],
    ids=["throttled", "refused", "connected already"],
)
def test_a_failure_leads_back_to_the_invitation(
    fake: FakeFinch, invite_site: Callable[..., Site], behaviour: Behaviour, title: str
) -> None:
    site = invite_site(begin_path="/begin", customer_of=lambda request: None, return_to="/settings")
    fake.script("sessions", behaviour)

    answer = press(Browser(site), invited(site))

    assert title in answer.text
    assert '<a class="' in answer.text
    assert re.search(r'href="">Try again</a>', answer.text)
    assert "<form" not in answer.text
    assert len(site.named("finch.begin.failed")) == 1


def test_a_failed_callback_leads_an_invited_person_to_no_login(
    fake: FakeFinch, invite_site: Callable[..., Site]
) -> None:
    site = invite_site(begin_path="/begin", customer_of=lambda request: None)
    browser = Browser(site)
    fake.script("token", Behaviour.error(400, name="invalid_grant_error"))

    answer = browser.get(fake.allow(press(browser, invited(site)).location))

    assert f'href="{INVITE}">Back to Northwind</a>' in answer.text
    assert "<form" not in answer.text


@pytest.mark.parametrize(
    ("error", "status"),
    [(StorageUnavailable("down"), 503), (KeyUnavailable(key_id="k1", reason="x"), 503)],
    ids=["storage", "key"],
)
def test_what_is_unavailable_is_a_page(
    invite_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise error

    site = invite_site()
    link = invited(site)
    owner, name = (
        (site.finch.storage, "for_customer")
        if isinstance(error, StorageUnavailable)
        else (site.finch.vault, "open")
    )
    monkeypatch.setattr(owner, name, fail)

    answers = [Browser(site).get(link), press(Browser(site), link)]

    assert [each.status for each in answers] == [status] * 2
    assert all('href="">Try again</a>' in each.text for each in answers)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"customer_name": ""}, "customer_name"),
        ({"customer_name": "a" * 256}, "customer_name"),
        ({"customer_name": "\ud800"}, "customer_name"),
        ({"customer_name": "é" * 250, "return_to": "/" + "a" * 254}, "the invitation is too long"),
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": 5}, "customer_id"),
        ({"customer_id": "a\n"}, "customer_id"),
        ({"products": ["pay_statements"]}, "products: .* did you mean 'pay_statement'"),
        ({"return_to": "//evil.test"}, "return_to"),
        ({"valid_for": timedelta(0)}, "valid_for"),
        ({"valid_for": timedelta(days=91)}, "valid_for"),
        ({"valid_for": 14}, "valid_for"),
        ({"connection_id": "c-1", "provider": "gusto"}, "connection_id"),
    ],
)
def test_a_link_is_not_made_of_what_its_page_could_not_use(
    invite_site: Callable[..., Site], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        invited(invite_site(), **given)


def test_without_an_invite_path_there_are_no_links(site: Site) -> None:
    with pytest.raises(UsageError, match=r"^invitation_url needs the option invite_path"):
        invited(site)
