"""Our own pages in a real browser: what they let happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import ARGUMENTS, PATIENCE_MS, chromium_path, sync_api
from tests.browser.pages import BEGIN, Files, Latecomer, connected
from tests.docs.snippets import page as manual, section, snippets
from tests.serving import served

playwright = sync_api()
expect = playwright.expect


@pytest.fixture(params=["https"])
def address(
    request: pytest.FixtureRequest, fake: FakeFinch, tls: tuple[Path, Path], clock: Clock
) -> Iterator[str]:
    """An application without a view of its own: a begin path and a home."""
    files, late = Files(), Latecomer()
    files.pages = {"/": "<!doctype html><html lang=en><title>Home</title><h1>Home</h1>"}
    with served(late, tls=tls if request.param == "https" else None) as address:
        late.app = connected(fake, address, files, clock=clock)
        yield address


@pytest.fixture
def without_cookies(chromium: playwright.Browser, tmp_path: Path) -> Iterator[playwright.Page]:
    """A Chromium that takes no cookies at all."""
    profile = tmp_path / "profile"
    (profile / "Default").mkdir(parents=True)
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(blocked), encoding="utf-8")
    context = chromium.browser_type.launch_persistent_context(
        profile,
        executable_path=chromium_path(),
        args=list(ARGUMENTS),
        ignore_https_errors=True,
        timeout=PATIENCE_MS,
    )
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def press(page: playwright.Page, address: str) -> None:
    page.goto(address + BEGIN)
    page.get_by_role("button", name="Continue to Finch").click()


def allow(page: playwright.Page, fake: FakeFinch) -> None:
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")
    page.get_by_role("button", name="Allow").click()


def test_the_begin_page_leads_to_finch_and_back(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    press(page, address)
    allow(page, fake)

    page.wait_for_url(f"{address}/?finch=connected&finch_ref=*")
    assert fake.ledger.calls("token") == 1


def test_t02_a_form_of_another_site_does_not_begin(
    page: playwright.Page, fake: FakeFinch, address: str, tls: tuple[Path, Path]
) -> None:
    files = Files()
    form = f'<form method="post" action="{address}{BEGIN}"><button>Win a prize</button></form>'
    files.pages = {"/": form}
    with served(files, host="app.evil.test", tls=tls) as stranger:
        page.goto(stranger)
        page.get_by_role("button").click()

        expect(page.get_by_role("heading")).to_have_text("We stopped this for your safety")

    assert fake.ledger.calls("sessions") == 0
    assert page.context.cookies(address) == []


def test_the_begin_page_is_shown_in_no_frame(
    page: playwright.Page, address: str, tls: tuple[Path, Path]
) -> None:
    files = Files()
    files.pages = {"/": f'<iframe src="{address}{BEGIN}"></iframe>'}
    with served(files, host="app.evil.test", tls=tls) as stranger:
        page.goto(stranger)

        expect(page.frame_locator("iframe").get_by_role("button")).to_have_count(0)


def test_start_again_leads_to_finch_at_once(
    page: playwright.Page, fake: FakeFinch, address: str, clock: Clock
) -> None:
    press(page, address)
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")
    clock.move(timedelta(hours=2))
    page.get_by_role("button", name="Allow").click()

    page.get_by_role("button", name="Start again").click()
    allow(page, fake)

    page.wait_for_url(f"{address}/?finch=connected&finch_ref=*")
    assert fake.ledger.calls("token") == 1


def test_a_finch_that_is_busy_is_tried_again_by_the_button(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    fake.script("token", Behaviour.error(429, headers={"Retry-After": "60"}))
    press(page, address)
    allow(page, fake)
    expect(page.get_by_role("heading")).to_have_text("Finch is very busy right now")

    page.get_by_role("link", name="Try again").click()

    page.wait_for_url(f"{address}/?finch=connected&finch_ref=*")
    assert len(fake.ledger.tokens) == 1


def test_the_manuals_form_begins_without_a_view(
    page: playwright.Page, fake: FakeFinch, tls: tuple[Path, Path]
) -> None:
    [form] = snippets(section(manual("flows"), "## A button without a view"), "html")
    files, late = Files(), Latecomer()
    files.pages = {"/": form.text}
    with served(late, tls=tls) as address:
        late.app = connected(fake, address, files, begin_path="/connect-payroll")
        page.goto(address)
        page.get_by_role("button", name="Connect payroll").click()
        allow(page, fake)

        page.wait_for_url(f"{address}/?finch=connected&finch_ref=*")

    assert fake.ledger.calls("token") == 1


def test_an_invited_person_connects_and_no_other_page_learns_of_the_link(
    page: playwright.Page, fake: FakeFinch, tls: tuple[Path, Path]
) -> None:
    late, referers = Latecomer(), list[str]()
    page.on("request", lambda request: referers.append(request.headers.get("referer", "")))
    with served(late, tls=tls) as address:
        options = {"invite_path": "/join", "customer_of": lambda request: None}
        late.app = app = connected(fake, address, Files(), **options)
        link = app.finch.invitation_url(customer_id="acme", customer_name="Acme Inc.")
        page.goto(link)
        expect(page.get_by_role("heading")).to_have_text("Connect the payroll of Acme Inc.")
        page.get_by_role("button", name="Continue to Finch").click()
        allow(page, fake)
        page.wait_for_url(f"{address}/join?finch=connected&finch_ref=*")
        expect(page.get_by_role("heading")).to_have_text("The payroll is connected")

        page.goto(link)
        expect(page.get_by_role("heading")).to_have_text("This invitation was already used")

    assert len(fake.ledger.tokens) == 1
    assert not [each for each in referers if "invitation" in each]


# An application with a login of its own loses that one first; here nothing else needs a cookie.
@pytest.mark.parametrize("address", ["https", "http"], indirect=True)
def test_a_browser_that_takes_no_cookies_reads_so_and_spends_no_code(
    without_cookies: playwright.Page, fake: FakeFinch, address: str
) -> None:
    page = without_cookies

    press(page, address)
    allow(page, fake)

    expect(page.get_by_role("heading")).to_have_text("This was not started in this browser")
    assert page.context.cookies() == []
    assert len(fake.ledger.codes) == 1
    assert fake.ledger.calls("token") == 0
