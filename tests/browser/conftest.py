from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.kit import (
    ARGUMENTS,
    PATIENCE_MS,
    Missing,
    chromium_path,
    packages,
    skip,
    sync_api,
)
from tests.odd_server import authority

if TYPE_CHECKING:
    import playwright.sync_api as playwright


# Not for the whole session: Playwright keeps an event loop in this thread while it runs, and
# other modules of tests start loops of their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    try:
        path = chromium_path()
    except Missing as missing:
        skip(str(missing))
    with sync_api().sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def new_context(
    chromium: playwright.Browser,
) -> Iterator[Callable[..., playwright.BrowserContext]]:
    """Opens browsers that share nothing; each trusts the test's own certificate."""
    opened = []

    def make(**options: object) -> playwright.BrowserContext:
        context = chromium.new_context(ignore_https_errors=True, **options)
        context.set_default_timeout(PATIENCE_MS)
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


@pytest.fixture
def page(new_context: Callable[..., playwright.BrowserContext]) -> playwright.Page:
    return new_context().new_page()


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of the packages of npm."""
    try:
        return packages()
    except Missing as missing:
        skip(str(missing))


@pytest.fixture(scope="session")
def tls() -> tuple[Path, Path]:
    """A certificate and its key, in one file."""
    file = authority().certificate("localhost")
    return file, file
