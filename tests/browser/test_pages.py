"""Our own pages in a real browser: what they let happen, who can read them, how they look."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from finch_middleware.messages import (
    FAILED_REASONS,
    INVALID_REASONS,
    Failed,
    Finishing,
    Invalid,
    Outcome,
)
from finch_middleware.pages import Pages
from finch_middleware.request import CallbackRequest
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import sync_api
from tests.browser.pages import BEGIN, Files, Latecomer, connected
from tests.browser.serving import example, served

playwright = sync_api()
expect = playwright.expect

WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = ("light", "dark")


@pytest.fixture
def address(fake: FakeFinch, tls: tuple[Path, Path], clock: Clock) -> Iterator[str]:
    """An application without a view of its own: a begin path and a home."""
    files, late = Files(), Latecomer()
    files.pages = {"/": "<!doctype html><html lang=en><title>Home</title><h1>Home</h1>"}
    with served(late, tls=tls) as address:
        late.app = connected(fake, address, files, clock=clock)
        yield address


def press(page: playwright.Page, address: str) -> None:
    page.goto(address + BEGIN)
    page.get_by_role("button", name="Go on to Finch").click()


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


def test_t2_a_form_of_another_site_does_not_begin(
    page: playwright.Page, fake: FakeFinch, address: str, tls: tuple[Path, Path]
) -> None:
    files = Files()
    form = f'<form method="post" action="{address}{BEGIN}"><button>Win a prize</button></form>'
    files.pages = {"/": form}
    with served(files, host="app.evil.test", tls=tls) as stranger:
        page.goto(stranger)
        page.get_by_role("button").click()

        expect(page.get_by_role("heading")).to_have_text("We stopped this to be safe")

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


def test_an_expired_flow_is_told_so_and_spends_no_code(
    page: playwright.Page, fake: FakeFinch, address: str, clock: Clock
) -> None:
    press(page, address)
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")

    clock.move(timedelta(hours=2))
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("heading")).to_have_text("That took a little too long")
    assert fake.ledger.calls("token") == 0


def test_a_finch_that_is_busy_is_tried_again_by_the_button(
    page: playwright.Page, fake: FakeFinch, address: str
) -> None:
    fake.script("token", Behaviour.error(429, headers={"Retry-After": "60"}))
    press(page, address)
    allow(page, fake)
    expect(page.get_by_role("heading")).to_have_text("It is very busy right now")

    page.get_by_role("link", name="Try again").click()

    page.wait_for_url(f"{address}/?finch=connected&finch_ref=*")
    assert len(fake.ledger.tokens) == 1


# -- who can read them, and how they look -----------------------------------------------------

COMMON: dict[str, Any] = {"reference": "7K3Q9XWD", "return_to": "/settings"}
OUTCOMES: dict[str, Outcome] = {
    "finishing": Finishing(spooled=False, **COMMON),
    **{f"invalid-{reason}": Invalid(reason=reason, **COMMON) for reason in INVALID_REASONS},
    **{f"failed-{reason}": Failed(reason=reason, **COMMON) for reason in FAILED_REASONS},
}


#: One page of each kind.
FIRST = ("begin", "finishing", "invalid-expired", "failed-unreachable")


class Gallery:
    """Every page of ours by its name: ``/?page=failed-unreachable``."""

    def __init__(self) -> None:
        self._pages = Pages(brand="Northwind Payroll")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        name = parse_qs(environ["QUERY_STRING"]).get("page", ["begin"])[0]
        if name == "begin":
            response = self._pages.begin(connect_origin="https://connect.tryfinch.com")
        else:
            response = self._pages.respond(OUTCOMES[name], CallbackRequest.of(environ))
        response.status_code = 200
        response.headers.pop("Refresh", None)
        return response(environ, start_response)


@pytest.fixture
def axe(npm: Path) -> str:
    """The source of axe-core."""
    return (npm / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: playwright.Page, axe: str) -> list[str]:
    """What axe finds, in one line each."""
    page.evaluate(axe)
    found = page.evaluate("axe.run().then(result => result.violations)")
    return [f"{page.url}: {each['id']}: {each['nodes'][0]['html']}" for each in found]


def looked_at(
    page: playwright.Page, name: str, axe: str, *, scheme: str | None = None
) -> list[str]:
    """
    What axe finds at each width in light and dark, or narrow in one *scheme*; what is too wide.

    FINCH_TEST_SCREENSHOTS names a folder that keeps what was seen.
    """
    kept, found = os.environ.get("FINCH_TEST_SCREENSHOTS"), []
    everything = scheme is None or kept
    for width_name, width in WIDTHS.items() if everything else [("narrow", WIDTHS["narrow"])]:
        page.set_viewport_size({"width": width, "height": 844})
        for seen in SCHEMES if everything else [scheme]:
            page.emulate_media(color_scheme=seen)
            found += violations(page, axe)
            if kept:
                page.screenshot(path=Path(kept) / f"{name}-{width_name}-{seen}.png")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{page.url}: wider than {width}")
    return found


def test_axe_finds_nothing_on_any_page_of_ours(page: playwright.Page, axe: str) -> None:
    found = []
    with served(Gallery()) as address:
        for name in ("begin", *OUTCOMES):
            page.goto(f"{address}/?page={name}")
            # All of a kind have the same colours, so one of it is seen in light and dark.
            found += looked_at(page, name, axe, scheme=None if name in FIRST else "light")

    assert found == []


@pytest.mark.parametrize("name", ["flask_app", "embedded"])
def test_axe_finds_nothing_on_the_examples_pages(
    page: playwright.Page, fake: FakeFinch, axe: str, npm: Path, name: str
) -> None:
    sdk = npm / "@tryfinch" / "react-connect" / "dist" / "index.js"
    page.route(
        "https://prod-cdn.tryfinch.com/**",
        lambda route: route.fulfill(path=sdk, content_type="text/javascript"),
    )
    found = []
    with example(name, fake) as address:
        page.goto(address)
        found += looked_at(page, f"{name}-signed-out", axe)
        page.get_by_role("button", name="Acme Inc.").click()
        found += looked_at(page, f"{name}-signed-in", axe)
        page.get_by_role("button", name="Connect payroll").click()
        where: Any = page
        if name == "embedded":
            where = page.frame_locator("#finch-connect-iframe")
        where.get_by_role("button", name="Allow").click()
        page.wait_for_url(re.compile("finch=connected"))
        found += looked_at(page, f"{name}-connected", axe)

    assert found == []
