"""
The redirect flow in a real browser, on the Flask and the Django example as users start them.

Each over https, with a certificate of the tests' own, and over http://localhost. Finch is another
site to both, as 127.0.0.1 is to localhost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch
from tests.browser.kit import sync_api
from tests.browser.serving import example

playwright = sync_api()
expect = playwright.expect

CALLBACK = "/finch/callback"
CONNECTED = "You are connected."
DECLINED = "You left before the connection was made."
KEY = new_key("browser")


@pytest.fixture(params=["https", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["flask_app", "django_project"])
def address(
    request: pytest.FixtureRequest, fake: FakeFinch, scheme: str, tls: tuple[Path, Path]
) -> Iterator[str]:
    """Where the example is."""
    chosen = tls if scheme == "https" else None
    with example(request.param, fake, tls=chosen, FINCH_KEY=KEY) as address:
        yield address


def sign_in(page: playwright.Page, address: str, employer: str = "Acme Inc.") -> None:
    page.goto(address)
    page.get_by_role("button", name=employer).click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def open_connect(page: playwright.Page, fake: FakeFinch) -> None:
    page.get_by_role("button", name=re.compile("^Connect")).click()
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")


def choose(page: playwright.Page, decision: str) -> None:
    page.get_by_role("button", name=decision, exact=True).click()


def connect(page: playwright.Page, fake: FakeFinch) -> None:
    open_connect(page, fake)
    choose(page, "Allow")
    expect(page.get_by_role("status")).to_have_text(CONNECTED)


def returns(page: playwright.Page) -> list[str]:
    """The addresses of the callback that the page asks for, from now on."""
    seen: list[str] = []
    page.on("request", lambda r: seen.append(r.url) if CALLBACK in r.url else None)
    return seen


def code_of(address: str) -> str:
    return parse_qs(urlsplit(address).query)["code"][0]


def test_an_employer_connects_over_another_site_and_comes_back(
    page: playwright.Page, fake: FakeFinch, address: str, scheme: str
) -> None:
    sign_in(page, address)

    open_connect(page, fake)
    [ticket] = [c for c in page.context.cookies() if "finch-" in c["name"]]
    choose(page, "Allow")

    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    expect(page.get_by_text("Gusto")).to_be_visible()
    assert page.url.startswith(f"{address}/?finch=connected&finch_ref=")
    assert "code=" not in page.url
    assert fake.ledger.calls("token") == len(fake.ledger.tokens) == 1
    secure = scheme == "https"
    assert ticket["name"].startswith("__Host-finch-" if secure else "finch-")
    assert (ticket["secure"], ticket["httpOnly"], ticket["sameSite"]) == (secure, True, "Lax")
    assert (ticket["domain"], ticket["path"]) == ("localhost", "/")
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("decision", ["Deny", "Close"])
def test_an_employer_who_declines_reads_that_nothing_was_connected(
    page: playwright.Page, fake: FakeFinch, address: str, decision: str
) -> None:
    sign_in(page, address)

    open_connect(page, fake)
    choose(page, decision)

    expect(page.get_by_role("status")).to_contain_text(DECLINED)
    assert fake.ledger.calls("token") == 0


def test_the_return_itself_opened_twice_is_answered_alike(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    seen = returns(page)
    connect(page, fake)
    first = page.url

    page.goto(seen[0])

    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    assert page.url == first
    assert fake.ledger.calls("token") == 1


def test_back_to_connect_and_allowed_again_connects_nothing_a_second_time(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    seen = returns(page)
    connect(page, fake)

    page.go_back()
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")
    choose(page, "Allow")

    expect(page.get_by_role("heading")).to_have_text("This link was already used")
    first, second = map(code_of, seen)
    assert (fake.ledger.presented(first), fake.ledger.presented(second)) == (1, 0)
    page.locator("main").get_by_role("link").click()  # home: "Start again", or "Back to …"
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_two_tabs_each_end_their_own_flow(
    new_context: Callable[..., playwright.BrowserContext], fake: FakeFinch, address: str
) -> None:
    context = new_context()
    first, second = context.new_page(), context.new_page()
    sign_in(first, address)
    second.goto(address)

    open_connect(first, fake)
    open_connect(second, fake)
    second.get_by_text("Rippling").click()
    choose(second, "Allow")
    expect(second.get_by_role("status")).to_have_text(CONNECTED)
    choose(first, "Allow")

    expect(first.get_by_role("status")).to_have_text(CONNECTED)
    expect(first.get_by_role("listitem")).to_have_count(2)
    assert fake.ledger.calls("token") == 2


def test_a_link_from_another_site_connects_nothing(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    open_connect(page, fake)
    code = fake.issue_code(customer_id="acme", redirect_uri=f"{address}{CALLBACK}")

    page.evaluate(
        "address => { location.href = address }", f"{address}{CALLBACK}?code={code}&state=x"
    )

    expect(page.get_by_role("heading")).to_have_text("This belongs to a different connection")
    assert fake.ledger.calls("token") == 0
