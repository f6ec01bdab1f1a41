from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from requests import Response

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.cli.demo.app import DemoApp
from finch_middleware.cli.demo.tour import Browser, location, text_of
from finch_middleware.cli.serving import listen, serve
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import options_for


@dataclass
class Site:
    """The demo's application, beside the `fake`, with a browser in front of it."""

    address: str
    database: Path
    browser: Browser

    def home(self, query: str = "") -> Response:
        return self.browser.open(f"{self.address}/{query}")

    def connect(self) -> Response:
        """The page on which the browser ends, after a connection."""
        opened = self.browser.submit(self.home(), "/connect")
        page = self.browser.open(location(opened))
        back = self.browser.submit(page, "/authorize", decision="allow", provider="gusto")
        return self.browser.open(location(self.browser.open(location(back))))


@pytest.fixture
def site(fake: FakeFinch, tmp_path: Path) -> Iterator[Site]:
    with listen(0) as listening, Browser() as browser:
        address = f"http://localhost:{listening.getsockname()[1]}"
        storage = f"sqlite:///{tmp_path}/finch.db"
        given = options_for(fake, f"{address}/finch/callback", storage=storage)
        finch = FinchConnect(**given)
        app = FinchMiddleware(DemoApp(finch, notice="A <test>.").wsgi_app, finch)
        with serve(app, listening):
            yield Site(address, tmp_path / "finch.db", browser)


@pytest.mark.parametrize("path", ["/connect", "/disconnect", "/employer"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.test"}, {"Origin": "null"}])
def test_a_form_of_another_site_does_nothing(
    site: Site, fake: FakeFinch, path: str, headers: dict[str, str]
) -> None:
    site.home()

    refused = site.browser.open(site.address + path, form={}, headers=headers)

    assert refused.status_code == 403
    assert fake.ledger.calls("sessions") == 0
    assert text_of(site.home(), "employer") == "Acme Inc."


def test_the_page_shows_the_connection_and_its_token_masked(site: Site, fake: FakeFinch) -> None:
    page = site.connect()

    token = fake.ledger.tokens[0]
    assert text_of(page, "provider") == "Gusto"
    assert text_of(page, "token") == f"{token[:4]}... (36 characters)"
    assert token not in page.text
    assert "Connect again" in page.text
    assert text_of(page, "primary") == ""


def test_a_disconnected_connection_is_gone_and_one_that_finch_keeps_is_not(
    site: Site, fake: FakeFinch
) -> None:
    page = site.connect()
    fake.script("disconnect", Behaviour.error(403))

    refused = site.browser.submit(page, "/disconnect")
    shown = text_of(site.home(), "provider")
    ended = site.browser.open(location(site.browser.submit(page, "/disconnect")))

    assert (refused.status_code, shown) == (502, "Gusto")
    assert text_of(ended, "banner") == "Your payroll is disconnected."
    assert text_of(ended, "none") == "No payroll is connected yet."


def test_a_token_of_another_key_is_shown_as_such(site: Site) -> None:
    site.connect()
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE finch_connections SET sealed = 'fm1.k2.c2VhbGVk'")

    assert text_of(site.home(), "token") == "encrypted with the key of another run"


def test_each_employer_sees_only_its_own_connections(site: Site) -> None:
    page = site.connect()

    site.browser.submit(page, "/employer")
    other = site.home()

    assert text_of(other, "employer") == "Globex Corp."
    assert text_of(other, "none") == "No payroll is connected yet."
    assert text_of(other, "token") == ""


@pytest.mark.parametrize(
    ("query", "banner"),
    [
        ("?finch=connected&finch_ref=<b>x</b>", "Your payroll is connected."),
        ("?finch=declined", "Nothing new was connected. You can start again at any time."),
        ("?finch=<script>", ""),
        ("", ""),
    ],
)
def test_a_banner_states_how_it_ended_and_nothing_that_a_stranger_wrote(
    site: Site, query: str, banner: str
) -> None:
    page = site.home(query)

    assert text_of(page, "banner") == banner
    assert "<script>" not in page.text
    assert "<b>" not in page.text


def test_a_token_that_is_still_on_its_way_is_not_called_missing(site: Site) -> None:
    page = site.home("?finch=finishing")

    assert text_of(page, "banner").startswith("Finch Connect is done.")
    assert text_of(page, "none") == ""


def test_a_finch_that_refuses_is_a_banner_and_a_log_line(
    site: Site, fake: FakeFinch, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script("sessions", Behaviour.error(400, name="bad_request"))

    page = site.browser.submit(site.home(), "/connect")

    assert page.status_code == 502
    assert text_of(page, "banner").startswith("Finch refused this.")
    assert "bad_request" in caplog.text


def test_a_finch_or_a_database_that_is_unavailable_is_a_page(site: Site, fake: FakeFinch) -> None:
    fake.script("sessions", Behaviour.error(429))
    by_finch = site.browser.submit(site.home(), "/connect")
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("DROP TABLE finch_connections")

    by_database = site.home()

    for page in (by_finch, by_database):
        assert page.status_code == 503
        assert "try again" in page.text


def test_the_page_is_not_stored_loads_nothing_and_escapes_its_notice(site: Site) -> None:
    first, second = site.home(), site.home()

    policy = first.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert policy != second.headers["Content-Security-Policy"]
    assert first.headers["Cache-Control"] == "no-store"
    assert "http" not in first.text
    assert "A &lt;test&gt;." in first.text


def test_the_cookie_of_the_login_is_not_for_scripts(site: Site) -> None:
    switched = site.browser.submit(site.home(), "/employer")

    assert {"HttpOnly", "SameSite=Lax"} <= {*switched.headers["Set-Cookie"].split("; ")}
