"""What every example does, in any order: Acme connects in some tests, Globex in none."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Event

import pytest

from finch_middleware.connections import DEADLINE
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.examples.browser import Browser
from tests.examples.running import WEBHOOK_SECRET, Running

ACME, GLOBEX = "Acme Inc.", "Globex Ltd."
#: Where Finch's views are the framework's own, its CSRF protection covers them.
WITH_TOKEN = [
    "flask_app",
    *(pytest.param(name, marks=pytest.mark.full) for name in ("pyramid_app", "bottle_app")),
]
with_token = pytest.mark.parametrize("example", WITH_TOKEN, indirect=True)
#: The buttons that lead to Finch Connect; a page has one of them.
BEGIN = re.compile("Connect payroll|Connect again|Sign in again")


def at_finch(example: Running, employer: str) -> Browser:
    """A browser that was sent to Finch Connect."""
    browser = example.browser(signed_in=employer)
    [button] = BEGIN.findall(browser.text)
    browser.press(button)
    return browser


@contextmanager
def no_session_opened(example: Running) -> Iterator[None]:
    before = len(example.fake.ledger.sessions)
    yield
    assert len(example.fake.ledger.sessions) == before


@contextmanager
def unavailable(fake: FakeFinch) -> Iterator[None]:
    """Finch cannot be reached within the `with` block."""
    fake.stop()
    try:
        yield
    finally:
        fake.start()


@contextmanager
def hidden_table(database: str) -> Iterator[None]:
    """The storage of connections is unavailable within the `with` block."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
        connection.execute("ALTER TABLE finch_connections RENAME TO hidden")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE hidden RENAME TO finch_connections")


def test_connections_are_shown_only_after_sign_in(example: Running) -> None:
    browser = example.browser()

    text = browser.text

    assert "Sign in as one of them" in text
    assert "Connect payroll" not in text


def test_a_new_employer_has_nothing_connected(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)

    text = browser.text

    assert "Nothing is connected yet." in text
    assert "Connect payroll" in text


def test_connect_leads_to_finch_for_the_signed_in_employer(example: Running) -> None:
    browser = at_finch(example, GLOBEX)

    opened = example.fake.ledger.sessions[-1]

    assert browser.response.url.startswith(example.fake.connect_origin)
    assert (opened.customer_id, opened.customer_name) == ("globex", GLOBEX)
    assert opened.redirect_uri == f"{example.address}/finch/callback"


def test_a_consent_is_listed_with_provider_products_and_date(example: Running) -> None:
    browser = at_finch(example, ACME)

    browser.press("Allow")

    assert browser.response.status_code == 200
    assert browser.response.url.startswith(f"{example.address}/?finch=connected&")
    assert "You are connected." in browser.text
    assert re.search(r"Gusto company, directory since \d+ \w+ 20\d\d, \d\d:\d\d UTC", browser.text)
    elsewhere = example.browser(signed_in=ACME).text
    assert "Gusto" in elsewhere
    assert "You are connected." not in elsewhere


def test_a_second_consent_renews_the_same_connection(example: Running) -> None:
    for _ in range(2):
        browser = at_finch(example, ACME)
        browser.press("Allow")

    assert browser.text.count("Gusto") == 1
    assert example.fake.ledger.sessions[-1].connection_id is not None


def test_a_code_is_presented_once_however_often_the_page_is_loaded(example: Running) -> None:
    browser = at_finch(example, ACME)
    callback = browser.press("Allow").history[-1].url

    browser.open(callback)

    code = example.fake.ledger.codes[-1].code
    assert code in callback
    assert browser.response.url.startswith(f"{example.address}/?finch=connected&")
    assert example.fake.ledger.presented(code) == 1


@pytest.mark.parametrize("decision", ["Deny", "Close"])
def test_a_refusal_is_reported_and_connects_nothing(example: Running, decision: str) -> None:
    browser = at_finch(example, GLOBEX)

    browser.press(decision)

    assert browser.response.url.startswith(f"{example.address}/?finch=declined&")
    assert "You left before the connection was made." in browser.text
    assert "Nothing is connected yet." in browser.text


def test_one_employer_sees_nothing_of_another(example: Running) -> None:
    at_finch(example, ACME).press("Allow")

    browser = example.browser(signed_in=GLOBEX)

    assert "Gusto" not in browser.text
    assert "Nothing is connected yet." in browser.text


@pytest.mark.parametrize("buttons", [["Sign out", GLOBEX], ["Sign out"]], ids=["other", "none"])
def test_a_return_into_another_login_is_refused_unspent(
    example: Running, buttons: list[str]
) -> None:
    browser = at_finch(example, ACME)
    callback = example.fake.allow(browser.response.url)
    browser.open("/")
    for label in buttons:
        browser.press(label)

    browser.open(callback)

    assert browser.response.status_code == 400
    assert example.fake.ledger.presented(example.fake.ledger.codes[-1].code) == 0


def test_a_connected_hint_alone_shows_no_success(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)

    browser.open("/?finch=connected")

    assert "You are connected." not in browser.text
    assert "Nothing is connected yet." in browser.text


@with_token
@pytest.mark.parametrize(
    "token", [None, "", "guessed", "gu\u00e9ss\u00e9"], ids=["none", "empty", "wrong", "not ASCII"]
)
def test_a_start_without_the_right_token_is_refused(example: Running, token: str | None) -> None:
    browser = example.browser(signed_in=GLOBEX)
    field = next(iter(browser.fields))
    fields = {} if token is None else {field: token}

    with no_session_opened(example):
        browser.send("/connect", fields=fields, headers=browser.ours)

    assert browser.response.status_code == 403


@with_token
def test_a_start_with_the_token_of_another_session_is_refused(example: Running) -> None:
    attacker = example.browser(signed_in=ACME)
    victim = example.browser(signed_in=GLOBEX)

    with no_session_opened(example):
        victim.send("/connect", fields=attacker.fields, headers=victim.ours)

    assert victim.response.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ],
    ids=["cross-site", "old browser", "hidden", "not stated"],
)
def test_a_start_from_another_site_is_refused(example: Running, headers: dict[str, str]) -> None:
    browser = example.browser(signed_in=GLOBEX)

    with no_session_opened(example):
        browser.send("/connect", fields=browser.fields, headers=headers)

    assert browser.response.status_code == 403


def test_a_start_without_a_login_is_refused(example: Running) -> None:
    browser = example.browser()

    with no_session_opened(example):
        browser.send("/connect", fields=browser.fields, headers=browser.ours)

    assert browser.response.status_code == 400
    assert "Please sign in" in browser.text


def test_a_get_starts_nothing(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)

    with no_session_opened(example):
        browser.open("/connect")

    assert browser.response.url == f"{example.address}/connect"


def test_a_forged_sign_in_is_refused(example: Running) -> None:
    browser = example.browser()

    browser.send("/sign-in", fields={"customer_id": "acme"})

    assert browser.response.status_code == 403
    browser.open("/")
    assert "Sign in as one of them" in browser.text


def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(example: Running) -> None:
    browser = example.browser()

    browser.press(ACME)

    cookies = browser.response.history[0].headers["Set-Cookie"].lower()
    assert "httponly" in cookies
    assert "samesite=lax" in cookies


@pytest.mark.parametrize(
    ("status", "words"), [("reauth", "needs a new sign-in"), ("disconnected", "disconnected")]
)
def test_a_status_that_needs_attention_is_shown(example: Running, status: str, words: str) -> None:
    at_finch(example, ACME).press("Allow")
    reported = Behaviour.alter(connection_status={"status": status})
    browser = example.browser(signed_in=ACME)
    example.fake.script("introspect", reported)

    browser.open("/")

    assert f"Gusto {words} company" in browser.text
    assert BEGIN.search(browser.text)
    browser.open("/")
    assert words not in browser.text


def test_a_connection_whose_token_finch_rejects_is_disconnected(example: Running) -> None:
    at_finch(example, ACME).press("Allow")
    browser = example.browser(signed_in=ACME)
    example.fake.script("introspect", Behaviour.error(401, name="authentication_error"))

    browser.open("/")

    assert "Gusto disconnected company" in browser.text


def test_the_last_known_status_is_shown_while_finch_is_unavailable(example: Running) -> None:
    at_finch(example, ACME).press("Allow")
    browser = example.browser(signed_in=ACME)

    with unavailable(example.fake):
        browser.open("/")

    assert browser.response.status_code == 200
    assert "Gusto company" in browser.text


# Two seconds, so only one example: `test_size` holds that this part of all is the same.
@pytest.mark.parametrize("example", ["flask_app"], indirect=True)
def test_the_list_waits_only_a_moment_for_a_slow_finch(example: Running) -> None:
    at_finch(example, ACME).press("Allow")
    browser = example.browser(signed_in=ACME)
    released = Event()
    example.fake.script("introspect", Behaviour.hold(released))

    browser.open("/")

    assert not released.is_set()
    released.set()
    assert "Gusto company" in browser.text
    assert browser.response.elapsed < DEADLINE  # after which the library gives up the call


def test_a_webhook_of_finch_is_received_and_no_other(example: Running) -> None:
    at_finch(example, ACME).press("Allow")
    connection_id = example.fake.ledger.codes[-1].connection_id
    webhook = f"{example.address}/finch/webhook"

    deliveries = []
    for secret in (WEBHOOK_SECRET, "YQ=="):
        example.fake.deliver_webhooks(webhook, secrets=[secret])
        deliveries.append(example.fake.send_webhook(connection_id=connection_id))

    assert [each.statuses for each in deliveries] == [(200,), (401,)]


def test_an_unavailable_finch_is_explained_to_the_person(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)

    with unavailable(example.fake):
        browser.press("Connect payroll")

    assert browser.response.status_code == 502
    assert "reach" in browser.text


def test_an_unavailable_storage_is_reported(
    example: Running, database: Callable[[str], str]
) -> None:
    browser = example.browser(signed_in=GLOBEX)

    with hidden_table(database(example.name)):
        browser.open("/")

    assert browser.response.status_code == 503
    assert browser.open("/").status_code == 200


def test_the_pages_of_the_library_name_the_brand(example: Running) -> None:
    browser = example.browser()

    browser.open("/finch/callback")

    assert "Example HR" in browser.text


def test_a_forged_session_is_signed_out(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)
    browser.tamper_with_cookies()

    browser.open("/")

    assert browser.response.status_code == 200
    assert "Sign in as one of them" in browser.text


def test_a_sign_out_ends_the_csrf_token(example: Running) -> None:
    browser = example.browser(signed_in=GLOBEX)
    before = browser.fields

    browser.press("Sign out")

    assert browser.fields.keys() == before.keys()
    assert browser.fields != before


def test_no_code_token_or_state_is_logged(example: Running) -> None:
    browser = at_finch(example, ACME)
    state = browser.fields["state"]
    browser.press("Allow")

    log = example.log

    ledger = example.fake.ledger
    assert example.address in log
    assert [each for each in (state, ledger.codes[-1].code, ledger.tokens[-1]) if each in log] == []
