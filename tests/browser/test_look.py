"""
Every page that there is, in a real browser: who can read it, and how it looks.

FINCH_TEST_SCREENSHOTS names a folder that keeps each as it was seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.cli.demo.app import DemoApp
from finch_middleware.crypto.keys import new_key
from finch_middleware.outcomes import (
    FAILED_REASONS,
    INVALID_REASONS,
    Failed,
    Finishing,
    Invalid,
    Outcome,
)
from finch_middleware.testing import add_connection
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.web.pages import At
from finch_middleware.web.request import CallbackRequest
from tests.browser.kit import sync_api
from tests.browser.pages import CALLBACK, Latecomer
from tests.browser.serving import example
from tests.sample_outcomes import make_pages
from tests.serving import served
from tests.site import options_for

playwright = sync_api()

WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = ("light", "dark")
CDN = "https://prod-cdn.tryfinch.com/**"
FRAME = "#finch-connect-iframe"
KEY = new_key("browser")
_AXE = "axe.run({iframes: false}).then(result => result.violations)"


class Viewer:
    """
    Looks at pages, as axe does.

    Attributes:
        found: What is wrong with them, in one line each.
    """

    def __init__(self, page: playwright.Page, *, axe: str) -> None:
        self.found: list[str] = []
        self._page = page
        self._axe = axe

    def look(self, name: str, *, scheme: str | None = None, shown: str | None = None) -> None:
        """Look at each width in light and dark, or narrow in one *scheme*, once *shown* is seen."""
        if shown is not None:
            self._page.get_by_text(shown).first.wait_for()
        self._page.wait_for_load_state()
        kept = os.environ.get("FINCH_TEST_SCREENSHOTS")
        all_of_it = scheme is None or bool(kept)
        for width in WIDTHS if all_of_it else ["narrow"]:
            self._page.set_viewport_size({"width": WIDTHS[width], "height": 844})
            for seen in SCHEMES if all_of_it else [scheme]:
                self._page.emulate_media(color_scheme=seen)
                self._ask_axe(f"{name}-{width}-{seen}")
                if kept:
                    path = Path(kept) / f"{name}-{width}-{seen}.png"
                    self._page.screenshot(path=path, full_page=True)
            if self._page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                self.found.append(f"{name}-{width}: wider than the window")

    def _ask_axe(self, name: str) -> None:
        # Each frame by itself: axe does not see into those of another origin.
        for frame in self._page.frames:
            frame.evaluate(self._axe)
            for each in frame.evaluate(_AXE):
                self.found.append(f"{name}: {each['id']}: {each['nodes'][0]['html']}")


@pytest.fixture
def viewer(page: playwright.Page, npm: Path) -> Viewer:
    axe = (npm / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    return Viewer(page, axe=axe)


# -- the library's own ------------------------------------------------------------------------

COMMON: dict[str, Any] = {"reference": "7K3Q9XWD", "return_to": "/settings"}
OUTCOMES: dict[str, Outcome] = {
    "finishing": Finishing(spooled=False, **COMMON),
    **{f"invalid-{reason}": Invalid(reason=reason, **COMMON) for reason in INVALID_REASONS},
    **{f"failed-{reason}": Failed(reason=reason, **COMMON) for reason in FAILED_REASONS},
}
#: Behind a name: the page where a begin path is, so that its button begins anew.
BUTTON = "-button"
#: Behind a name: the page of a failed `begin`, which cannot be loaded again.
AT_BEGIN = "-at-begin"
#: One page of each kind.
FIRST = (
    *(
        "begin",
        "invitation",
        "invitation-connected",
        "finishing",
        "invalid-expired",
        "failed-unreachable",
        "failed-ambiguous-button",
    ),
    *("failed-unreachable-at-begin", "failed-unreachable-at-begin-button"),
)


class Gallery:
    """Every page of ours by its name: ``/?page=failed-unreachable``."""

    def __init__(self) -> None:
        self._pages = make_pages(brand="Northwind Payroll")
        self._with_button = make_pages(
            brand="Northwind Payroll", begin_path="/connect", customer_of=print
        )

    def __call__(self, environ: Any, start_response: Any) -> Any:
        name = parse_qs(environ["QUERY_STRING"]).get("page", ["begin"])[0]
        pages = self._with_button if name.endswith(BUTTON) else self._pages
        if name == "begin":
            response = pages.begin()
        elif name == "invitation":
            response = pages.invitation(
                customer_name="Söhne & Töchter GmbH", products=["company", "directory", "payment"]
            )
        elif name == "invitation-connected":
            response = pages.notice("invitation.connected")
        else:
            name = name.removesuffix(BUTTON)
            outcome = OUTCOMES[name.removesuffix(AT_BEGIN)]
            at: At = "begin" if name.endswith(AT_BEGIN) else "callback"
            response = pages.respond(outcome, CallbackRequest.of(environ), at=at)
        response.status_code = 200
        response.headers.pop("Refresh", None)
        return response(environ, start_response)


def test_axe_finds_nothing_on_any_page_of_ours(page: playwright.Page, viewer: Viewer) -> None:
    with served(Gallery()) as address:
        for name in (*FIRST, *OUTCOMES.keys() - set(FIRST)):
            page.goto(f"{address}/?page={name}")
            # All of a kind have the same colours, so one of it is seen in light and dark.
            viewer.look(name, scheme=None if name in FIRST else "light")

    assert viewer.found == []


# -- the examples' ----------------------------------------------------------------------------


def finch_of(fake: FakeFinch, *, storage: str) -> FinchConnect:
    """A component beside the example's, on the same rows."""
    given = options_for(fake, f"http://localhost{CALLBACK}", storage=storage, key=KEY)
    return FinchConnect(**given)


def add_connections_in_need(finch: FinchConnect, *, customer_id: str) -> None:
    """One connection in each state that a person has to know of."""
    for status, provider_id in {
        "pending": "bamboo_hr",
        "processing": "adp_run",
        "reauth": "gusto",
        "error_no_account_setup": "quickbooks_payroll",
        "disconnected": "rippling",
    }.items():
        added = add_connection(finch, customer_id=customer_id, provider_id=provider_id)
        stored = finch.storage.get(added.connection_id)
        assert stored is not None
        assert finch.storage.swap(stored, replace(stored, status=status))


@pytest.fixture(params=["flask_app", "django_project", "fastapi_app", "embedded"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(fake: FakeFinch, tmp_path: Path, name: str) -> Iterator[str]:
    """Where the example is; Acme has nothing yet, Globex much that wants attention."""
    storage = f"sqlite:///{tmp_path}/finch.db"
    add_connections_in_need(finch_of(fake, storage=storage), customer_id="globex")
    with example(name, fake, FINCH_STORAGE_URL=storage, FINCH_KEY=KEY) as address:
        yield address


def test_axe_finds_nothing_on_the_examples_pages(
    page: playwright.Page, fake: FakeFinch, viewer: Viewer, npm: Path, name: str, address: str
) -> None:
    # One look for all: in full on one of those that differ in their server alone.
    scheme = None if name in ("flask_app", "embedded") else "light"
    sdk = npm / "@tryfinch" / "react-connect" / "dist" / "index.js"
    page.route(CDN, lambda route: route.fulfill(path=sdk, content_type="text/javascript"))

    page.goto(address)
    viewer.look(f"{name}-signed-out", scheme=scheme)
    page.get_by_role("button", name="Acme Inc.").click()
    viewer.look(f"{name}-signed-in", scheme=scheme, shown="Sign out")
    if name == "flask_app":
        page.get_by_role("button", name="Invite someone").click()
        viewer.look(f"{name}-invited", shown="Back to the payroll")
    for hint in ("declined", "finishing"):
        page.goto(f"{address}/?finch={hint}")
        viewer.look(f"{name}-{hint}", scheme=scheme)
    page.get_by_role("button", name="Connect payroll").click()
    connect: Any = page.frame_locator(FRAME) if name == "embedded" else page
    connect.get_by_role("button", name="Allow").wait_for()
    if name == "embedded":
        viewer.look(f"{name}-open")
    connect.get_by_role("button", name="Allow").click()
    page.wait_for_url(re.compile("finch=connected"))
    viewer.look(f"{name}-connected", scheme=scheme)
    if name == "flask_app":
        page.get_by_role("link", name="Disconnect").click()
        viewer.look(f"{name}-confirmation", shown="Keep it connected")
    page.get_by_role("button", name="Sign out").click()
    fake.stop()  # so that nobody says better how the rows of Globex stand
    page.get_by_role("button", name="Globex Ltd.").click()
    page.get_by_role("listitem").first.wait_for()
    viewer.look(f"{name}-attention", scheme=scheme)

    assert viewer.found == []


def test_axe_finds_nothing_on_what_an_employer_reads_who_leaves_the_frame(
    page: playwright.Page, viewer: Viewer, npm: Path, fake: FakeFinch
) -> None:
    sdk = npm / "@tryfinch" / "react-connect" / "dist" / "index.js"
    page.route(CDN, lambda route: route.fulfill(path=sdk, content_type="text/javascript"))
    with example("embedded", fake) as address:
        page.goto(address)
        page.get_by_role("button", name="Acme Inc.").click()
        page.get_by_role("button", name="Connect payroll").wait_for()
        page.wait_for_load_state()  # without the page's own script, the form leaves the page
        page.get_by_role("button", name="Connect payroll").click()
        page.frame_locator(FRAME).get_by_role("button", name="Close").click()
        page.get_by_text("You left").wait_for()
        viewer.look("embedded-left")

    assert viewer.found == []


# -- the fake's, and the demo's ---------------------------------------------------------------


def test_axe_finds_nothing_on_the_fakes_pages(
    page: playwright.Page, viewer: Viewer, fake: FakeFinch
) -> None:
    opened = finch_of(fake, storage="memory://").begin(
        customer_id="acme", customer_name="Acme Inc."
    )

    page.goto(opened.headers["Location"])
    viewer.look("fake-connect")
    page.goto(f"{fake.connect_origin}/authorize?session=gone")
    viewer.look("fake-refusal")

    assert viewer.found == []


def test_axe_finds_nothing_on_the_demos_pages(
    page: playwright.Page, viewer: Viewer, fake: FakeFinch
) -> None:
    late = Latecomer()
    with served(late) as address:
        finch = FinchConnect(**options_for(fake, address + CALLBACK))
        notice = "A demo with a fake Finch. Nothing here is real."
        late.app = FinchMiddleware(DemoApp(finch, notice=notice).wsgi_app, finch)
        page.goto(address)
        viewer.look("demo-signed-in")
        for hint in ("declined", "finishing", "refused"):
            page.goto(f"{address}/?finch={hint}&finch_ref=7K3Q7XWD")
            viewer.look(f"demo-{hint}")
        page.get_by_role("button", name="Connect payroll").click()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(re.compile("finch=connected"))
        viewer.look("demo-connected")
        page.get_by_role("button", name="Connect again").click()
        page.get_by_role("button", name="Allow").wait_for()
        viewer.look("fake-connect-again")

    assert viewer.found == []
