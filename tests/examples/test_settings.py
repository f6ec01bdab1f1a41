"""The settings page of the Flask example: what each of its buttons may do, and for whom."""

from __future__ import annotations

import pytest

from finch_middleware.testing.fake_finch import Behaviour
from tests.examples.browser import Browser
from tests.examples.running import Running

pytestmark = pytest.mark.parametrize("example", ["flask_app"], indirect=True)

PATHS = ["sign-in-again", "disconnect"]


@pytest.fixture
def acme(example: Running) -> Browser:
    """Acme's browser, on the page of its connection."""
    browser = example.browser(signed_in="Acme Inc.")
    if "Gusto" not in browser.text:
        browser.press("Connect payroll")
        browser.press("Allow")
    return browser


@pytest.fixture
def path(example: Running, acme: Browser) -> str:
    """The path of Acme's connection."""
    return f"/connections/{example.fake.ledger.codes[-1].connection_id}"


def calls(example: Running) -> int:
    ledger = example.fake.ledger
    return ledger.calls("disconnect") + ledger.calls("reauthenticate")


@pytest.mark.parametrize("button", PATHS)
@pytest.mark.parametrize(
    ("person", "token", "status"),
    [("Acme Inc.", False, 403), ("Globex Ltd.", True, 404), (None, True, 401)],
    ids=["forged", "another customer", "signed out"],
)
def test_a_button_works_for_the_connections_own_customer(
    example: Running, path: str, button: str, person: str | None, token: bool, status: int
) -> None:
    browser, before = example.browser(signed_in=person), calls(example)
    fields = browser.fields if token else {}

    response = browser.send(f"{path}/{button}", fields=fields, headers=browser.ours)

    assert response.status_code == status
    assert calls(example) == before


def test_another_customers_connection_cannot_be_looked_at(example: Running, path: str) -> None:
    browser = example.browser(signed_in="Globex Ltd.")

    assert browser.open(f"{path}/disconnect").status_code == 404
    assert browser.open("/connections.json").text == "[]"


def test_a_get_ends_nothing(example: Running, acme: Browser, path: str) -> None:
    before = calls(example)

    assert "Disconnect Gusto?" in acme.open(f"{path}/disconnect").text
    assert acme.open(f"{path}/sign-in-again").status_code == 405
    assert calls(example) == before


@pytest.mark.parametrize("button", PATHS)
def test_a_refusal_of_finch_is_reported_and_keeps_the_connection(
    example: Running, acme: Browser, path: str, button: str
) -> None:
    endpoint = "reauthenticate" if button == "sign-in-again" else "disconnect"
    example.fake.script(endpoint, Behaviour.error(403))

    refused = acme.send(f"{path}/{button}", fields=acme.fields, headers=acme.ours)

    assert (refused.status_code, refused.text) == (502, "Finch refused this.")
    assert "Gusto" in acme.open("/").text
