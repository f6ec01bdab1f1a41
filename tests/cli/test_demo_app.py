from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from finch_middleware.cli import demo_app
from finch_middleware.cli.demo_browser import Answer, Browser, Form
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.cli.conftest import Stage


@pytest.fixture
def browser() -> Browser:
    return Browser()


def connected(browser: Browser, stage: Stage) -> Answer:
    """The page on which the browser ends, after a connection."""
    opened = browser.submit(browser.get(stage.address).form("/connect"))
    page = browser.get(opened.location)
    back = browser.submit(page.form("/authorize"), decision="allow").location
    return browser.get(browser.get(back).location)


@pytest.mark.parametrize("path", ["/connect", "/employer"])
@pytest.mark.parametrize("token", ["", "guessed"])
def test_a_form_of_another_site_opens_nothing(
    stage: Stage, browser: Browser, fake: FakeFinch, path: str, token: str
) -> None:
    browser.get(stage.address)

    answer = browser.submit(Form(action=stage.address + path, fields={"csrf_token": token}))

    assert answer.status == 403
    assert fake.ledger.calls("sessions") == 0
    assert browser.get(stage.address).marked("employer") == "Acme Inc."


def test_a_form_of_another_visitor_opens_nothing(
    stage: Stage, browser: Browser, fake: FakeFinch
) -> None:
    browser.get(stage.address)
    anothers = Browser().get(stage.address).form("/connect")

    answer = browser.submit(anothers)

    assert answer.status == 403
    assert fake.ledger.calls("sessions") == 0


def test_a_form_without_a_visit_opens_nothing(stage: Stage, fake: FakeFinch) -> None:
    form = Browser().get(stage.address).form("/connect")

    answer = Browser().submit(form)

    assert answer.status == 403
    assert fake.ledger.calls("sessions") == 0


def test_a_link_opens_nothing(stage: Stage, browser: Browser, fake: FakeFinch) -> None:
    browser.get(stage.address)

    answer = browser.get(f"{stage.address}/connect")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert fake.ledger.calls("sessions") == 0


def test_another_path_is_not_found(stage: Stage, browser: Browser) -> None:
    assert browser.get(f"{stage.address}/favicon.ico").status == 404


def test_the_page_shows_the_connection_and_its_token_masked(
    stage: Stage, browser: Browser, fake: FakeFinch
) -> None:
    page = connected(browser, stage)

    token = fake.ledger.tokens[0]
    assert page.marked("provider") == "Gusto"
    assert page.marked("token") == f"{token[:4]}... (36 characters)"
    assert token not in page.text
    assert page.marked("primary") == "Connect again"


def test_each_employer_sees_its_own_connections_alone(stage: Stage, browser: Browser) -> None:
    page = connected(browser, stage)

    browser.submit(page.form("/employer"))
    others = browser.get(stage.address)

    assert others.marked("employer") == "Globex Corp."
    assert others.marked("none") == "No payroll is connected yet."
    assert others.marked("token") == ""


@pytest.mark.parametrize(
    ("query", "banner"),
    [
        ("finch=connected&finch_ref=ABCDEFGH", "Your payroll is connected. Reference ABCDEFGH"),
        ("finch=connected&finch_ref=<b>x</b>", "Your payroll is connected."),
        ("finch=declined", "Nothing was connected. You can start again whenever you like."),
        ("finch=finishing", "Your payroll agreed. It will show up here in a moment."),
        ("finch=<script>", ""),
        ("", ""),
    ],
)
def test_a_banner_says_how_it_ended_and_nothing_that_a_stranger_wrote(
    stage: Stage, browser: Browser, query: str, banner: str
) -> None:
    page = browser.get(f"{stage.address}/?{query}")

    assert page.marked("banner") == banner
    assert "<script>" not in page.text
    assert "<b>" not in page.text


def test_a_token_on_its_way_is_not_called_nothing(stage: Stage, browser: Browser) -> None:
    assert browser.get(f"{stage.address}/?finch=finishing").marked("none") == ""
    assert browser.get(f"{stage.address}/?finch=declined").marked("none") != ""


def test_the_notice_is_escaped(stage: Stage, browser: Browser) -> None:
    assert "A &lt;test&gt;." in browser.get(stage.address).text


def test_a_finch_that_refuses_is_a_banner(
    stage: Stage, browser: Browser, fake: FakeFinch, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script("sessions", Behaviour.error(400, name="bad_request"))

    answer = browser.submit(browser.get(stage.address).form("/connect"))

    assert answer.status == 502
    assert answer.marked("banner").startswith("Finch did not open Connect.")
    assert "bad_request" in caplog.text


def test_a_finch_that_is_away_is_a_page(stage: Stage, browser: Browser, fake: FakeFinch) -> None:
    fake.script("sessions", Behaviour.error(429))

    answer = browser.submit(browser.get(stage.address).form("/connect"))

    assert answer.status == 503
    assert answer.marked("h1") == "Finch is very busy right now"


def test_a_database_that_is_away_is_told(stage: Stage, browser: Browser) -> None:
    with closing(sqlite3.connect(stage.database)) as connection, connection:
        connection.execute("DROP TABLE finch_connections")

    answer = browser.get(stage.address)

    assert answer.status == 503
    assert "The database is away" in answer.text


def test_the_page_lets_nothing_from_elsewhere_in(stage: Stage, browser: Browser) -> None:
    page = browser.get(stage.address)

    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert policy != browser.get(stage.address).headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.headers["cache-control"] == "no-store"


def test_the_session_cookie_is_not_for_scripts(stage: Stage) -> None:
    (cookie,) = Browser().get(stage.address).set_cookies

    assert {"HttpOnly", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}


def test_the_oldest_visitor_is_forgotten_before_the_memory_fills(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_app, "_VISITORS_LIMIT", 2)
    first, second, third = Browser(), Browser(), Browser()
    for browser in (first, second, third):
        browser.get(stage.address)

    known = [browser.get(stage.address).set_cookies == () for browser in (third, second, first)]

    assert known == [True, True, False]
