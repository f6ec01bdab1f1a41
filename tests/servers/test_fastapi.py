"""The FastAPI example, as its user starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.browser.serving import example
from tests.examples.browser import Browser

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")


@pytest.fixture
def address(fake: FakeFinch) -> Iterator[str]:
    with example("fastapi_app", fake) as address:
        yield address


def test_an_employer_connects_and_sees_the_connection(fake: FakeFinch, address: str) -> None:
    browser = Browser(address)
    browser.press("Acme Inc.")

    browser.press("Connect payroll")
    browser.press("Allow")

    assert browser.response.url.startswith(f"{address}/?finch=connected&")
    assert "You are connected." in browser.text
    assert "Gusto" in browser.text
    assert fake.ledger.calls("token") == len(fake.ledger.tokens) == 1


@pytest.mark.parametrize("token", [{}, {"csrf_token": "forged"}], ids=["none", "forged"])
def test_t02_a_forged_form_does_not_begin(
    fake: FakeFinch, address: str, token: dict[str, str]
) -> None:
    browser = Browser(address)
    browser.press("Acme Inc.")

    answer = browser.send("/connect", fields=token)

    assert answer.status_code in (403, 422)
    assert fake.ledger.calls("sessions") == 0


def test_a_login_that_ended_meanwhile_spends_no_code(fake: FakeFinch, address: str) -> None:
    browser = Browser(address)
    browser.press("Acme Inc.")
    browser.press("Connect payroll")
    at_finch = browser.response.url
    browser.open("/")
    browser.press("Sign out")

    browser.open(fake.allow(at_finch))

    assert "Please sign in again" in browser.text
    assert fake.ledger.calls("token") == 0
