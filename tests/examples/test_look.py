"""The one look of all examples: what a page says, whatever the application."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from finch_middleware import Connection, Secret
from tests.examples.browser import Reader
from tests.examples.running import EXAMPLES, Running


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What all examples share."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("shared")


@pytest.fixture
def home_page(shared: Any) -> Callable[..., str]:
    def page(*connections: Connection, **given: Any) -> str:
        needed: dict[str, Any] = {
            "customer": shared.EMPLOYERS["acme"],
            "connections": connections,
            "hint": None,
            "csrf_token": "t",
        }
        return str(shared.home_page(**needed | given))

    return page


def connection(**given: Any) -> Connection:
    values = {
        "connection_id": "c-1",
        "customer_id": "acme",
        "provider_id": "gusto",
        "products": ("company",),
        "client_type": "production",
        "connection_type": "provider",
        "status": None,
        "obtained_at": datetime(2026, 3, 1, 9, 5, tzinfo=UTC),
        "attempt_id": "a",
    }

    def opened() -> Secret:
        raise AssertionError("a page opens no token")

    return Connection(**{**values, **given, "access_token": None, "_opened": opened})


def words(page: str) -> str:
    return " ".join(Reader(page).texts)


def test_a_finishing_connection_is_announced(home_page: Callable[..., str]) -> None:
    page = home_page(hint="finishing")

    assert "Almost done" in words(page)
    assert "Nothing is connected yet." not in words(page)


def test_a_connection_shows_since_when(home_page: Callable[..., str]) -> None:
    page = home_page(connection())

    assert "Gusto company since 1 March 2026, 09:05 UTC" in words(page)
    assert 'datetime="2026-03-01T09:05:00+00:00"' in page


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("reauth", "wants to be connected again"),
        ("disconnected", "disconnected"),
        ("a word of tomorrow", "a word of tomorrow"),
    ],
)
def test_a_connection_out_of_order_says_its_status(
    home_page: Callable[..., str], status: str, told: str
) -> None:
    page = home_page(connection(status=status))

    assert f"Gusto {told} company" in words(page)


def test_a_connection_in_order_says_none(home_page: Callable[..., str]) -> None:
    page = home_page(connection(status="connected"))

    assert 'attention"' not in page


@pytest.mark.parametrize("hint", ["", "<b>", "Connected", "connected "])
def test_an_unknown_hint_says_nothing(home_page: Callable[..., str], hint: str) -> None:
    page = home_page(connection(), hint=hint)

    assert page == home_page(connection())


def test_what_comes_from_outside_is_escaped(home_page: Callable[..., str]) -> None:
    hostile = "<img src=x>"
    odd = connection(provider_id=hostile, products=(hostile,), status=hostile)

    page = home_page(odd, csrf_token=hostile)

    assert "<img" not in page.lower()


@pytest.mark.parametrize("employer", [None, "globex"], ids=["signed out", "signed in"])
def test_every_example_serves_this_page_whole(
    shared: Any, example: Running, employer: str | None
) -> None:
    customer = shared.EMPLOYERS.get(employer)
    browser = example.browser(signed_in=customer and customer.name)

    served = browser.response.text

    [(field, token)] = browser.fields.items()
    page = shared.home_page(customer, connections=[], hint=None, csrf_token=token, csrf_field=field)
    scripts = '<script src="/connect.js"' in served
    assert scripts == (example.name == "embedded")
    assert served == (shared.embedded(page) if scripts else page)
