"""The redirect flow in a real browser, on examples as their users start them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import sync_api
from tests.browser.serving import example

playwright = sync_api()
expect = playwright.expect

CONNECTED = "You are connected."
DECLINED = "You left before the connection was made."


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["flask_app", "django_project"])
def address(
    request: pytest.FixtureRequest, fake: FakeFinch, scheme: str, tls: tuple[Path, Path]
) -> Iterator[str]:
    """Where the example is; Finch is another site to it, as 127.0.0.1 is to localhost."""
    name = request.param
    with example(name, fake, tls=tls if scheme == "https" else None) as address:
        yield address


#: One application is enough where only the browser and our pages differ.
flask_alone = pytest.mark.parametrize(
    ("address", "scheme"), [("flask_app", "https")], indirect=True
)


def sign_in(page: playwright.Page, address: str, employer: str = "Acme Inc.") -> None:
    page.goto(address)
    page.get_by_role("button", name=employer).click()
    expect(page.get_by_role("heading", name="Payroll")).to_be_visible()


def open_connect(page: playwright.Page, fake: FakeFinch) -> None:
    page.get_by_role("button", name=re.compile("^Connect")).click()
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")


def choose(page: playwright.Page, decision: str) -> None:
    page.get_by_role("button", name=decision, exact=True).click()


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
@flask_alone
def test_an_employer_who_declines_comes_back_to_words(
    page: playwright.Page, fake: FakeFinch, address: str, decision: str
) -> None:
    sign_in(page, address)

    open_connect(page, fake)
    choose(page, decision)

    expect(page.get_by_role("status")).to_contain_text(DECLINED)
    assert fake.ledger.calls("token") == 0


@flask_alone
def test_a_reload_and_the_back_button_spend_no_second_code(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    open_connect(page, fake)
    choose(page, "Allow")
    expect(page.get_by_role("status")).to_have_text(CONNECTED)

    page.reload()
    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    page.go_back()
    page.go_forward()
    expect(page.get_by_role("status")).to_have_text(CONNECTED)

    assert fake.ledger.calls("token") == 1
    assert "code=" not in page.evaluate("JSON.stringify(performance.getEntries())")


@flask_alone
def test_the_return_itself_opened_twice_is_answered_alike(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    returns = []
    page.on("request", lambda r: returns.append(r.url) if "/finch/callback" in r.url else None)
    open_connect(page, fake)
    choose(page, "Allow")
    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    first = page.url

    page.goto(returns[0])

    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    assert page.url == first
    assert fake.ledger.calls("token") == 1


@flask_alone
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
    choose(first, "Allow")

    expect(second.get_by_role("status")).to_have_text(CONNECTED)
    expect(first.get_by_role("status")).to_have_text(CONNECTED)
    expect(first.get_by_role("listitem")).to_have_count(2)
    assert fake.ledger.calls("token") == 2


@flask_alone
def test_a_slow_finch_is_waited_for_and_a_second_tab_waits_along(
    new_context: Callable[..., playwright.BrowserContext], fake: FakeFinch, address: str
) -> None:
    context = new_context()
    page, other = context.new_page(), context.new_page()
    sign_in(page, address)
    fake.script("token", Behaviour.delay(3))
    open_connect(page, fake)

    with page.expect_request(re.compile("/finch/callback")) as returned:
        page.get_by_role("button", name="Allow").click(no_wait_after=True)
    fake.ledger.wait_for_calls("token")
    other.goto(returned.value.url)

    expect(other.get_by_role("status")).to_have_text(CONNECTED)
    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    assert fake.ledger.calls("token") == 1


@flask_alone
def test_a_browser_that_keeps_no_cookie_is_told_so_and_spends_no_code(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    open_connect(page, fake)

    page.context.clear_cookies(name=re.compile("finch-"))
    choose(page, "Allow")

    expect(page.get_by_role("heading")).to_have_text("This was not started in this browser")
    assert fake.ledger.calls("token") == 0


@flask_alone
def test_a_link_from_another_site_connects_nothing(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    sign_in(page, address)
    open_connect(page, fake)
    code = fake.issue_code(customer_id="acme", redirect_uri=f"{address}/finch/callback")

    page.evaluate(
        "address => { location.href = address }", f"{address}/finch/callback?code={code}&state=x"
    )

    expect(page.get_by_role("heading")).to_have_text("This belongs to a different connection")
    assert fake.ledger.calls("token") == 0
