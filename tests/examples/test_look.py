"""The page that all examples share."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from finch_middleware import Connection, Customer, Secret
from finch_middleware.crypto.opened import AccessToken
from finch_middleware.records import Entity
from tests.examples.browser import Reader
from tests.examples.running import EXAMPLES, Running

ACME = Customer(id="acme", name="Acme Inc.")


@pytest.fixture
def home_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    shared = importlib.import_module("shared")

    def page(*connections: Connection, customer: Customer | None = ACME, **given: Any) -> str:
        return str(
            shared.home_page(
                customer, connections=connections, **{"hint": None, "csrf_token": "t"} | given
            )
        )

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
        "connected_at": datetime(2026, 3, 1, 9, 5, tzinfo=UTC),
        "obtained_at": datetime(2026, 5, 1, 9, 5, tzinfo=UTC),
        "attempt_id": "a",
        "status_message": None,
        "synced_at": None,
        "checked_at": None,
        "entities": (),
    }

    def opened() -> Secret:
        raise AssertionError("a page must not open a token")

    return Connection(**{**values, **given, "access_token": AccessToken(opened)})


def text_of(page: str) -> str:
    return " ".join(Reader(page).texts)


def test_a_finishing_connection_is_announced(home_page: Callable[..., str]) -> None:
    page = home_page(hint="finishing")

    assert "Almost done" in text_of(page)
    assert "Nothing is connected yet." not in text_of(page)


def test_a_connection_shows_since_when(home_page: Callable[..., str]) -> None:
    page = home_page(connection())

    assert "Gusto company since 1 March 2026, 09:05 UTC" in text_of(page)
    assert 'datetime="2026-03-01T09:05:00+00:00"' in page


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("reauth", "needs a new sign-in"),
        ("disconnected", "disconnected"),
        ("a future status", "a future status"),
    ],
)
def test_a_connection_that_does_not_work_shows_its_status(
    home_page: Callable[..., str], status: str, words: str
) -> None:
    page = home_page(connection(status=status))

    assert f"Gusto {words} company" in text_of(page)


def test_only_several_entities_are_named_each_with_what_it_needs(
    home_page: Callable[..., str],
) -> None:
    main, west = Entity(id="e-1", name="Main"), Entity(id="e-2", source_id="002", status="reauth")

    assert "Main" not in home_page(connection(entities=(main,)))
    assert "UTC Main 002 needs a new sign-in" in text_of(
        home_page(connection(entities=(main, west)))
    )


def test_a_connection_that_works_shows_no_status(home_page: Callable[..., str]) -> None:
    page = home_page(connection(status="connected"))

    assert 'attention"' not in page


@pytest.mark.parametrize("hint", ["", "<b>", "Connected", "connected "])
def test_an_unknown_hint_shows_no_message(home_page: Callable[..., str], hint: str) -> None:
    page = home_page(connection(), hint=hint)

    assert page == home_page(connection())


def test_a_value_from_outside_is_escaped(home_page: Callable[..., str]) -> None:
    hostile = "<img src=x>"
    entities = (Entity(id="e-1", name=hostile), Entity(id=hostile, status=hostile))
    odd = connection(
        connection_id=hostile,
        provider_id=hostile,
        products=(hostile,),
        status=hostile,
        entities=entities,
    )

    page = home_page(odd, csrf_token=hostile)
    own = Customer(id=hostile, name=hostile)
    settings = sys.modules["shared"].settings_page(
        own, connections=[odd], hint=hostile, csrf_token=hostile
    )
    confirmation = sys.modules["shared"].confirmation_page(own, odd, csrf_token=hostile)

    assert "<img" not in (page + settings + confirmation).lower()


@pytest.mark.parametrize(
    "customer", [None, Customer(id="globex", name="Globex Ltd.")], ids=["signed out", "signed in"]
)
def test_every_example_serves_the_whole_page(
    home_page: Callable[..., str], example: Running, customer: Customer | None
) -> None:
    browser = example.browser(signed_in=customer.name if customer else None)

    served, scripts = re.subn("(?s)<script .*?</script>\n", "", browser.response.text)
    served = re.sub('(?s)<form method="post" action="/invite">.*?</form>\n', "", served)

    [(field, token)] = browser.fields.items()
    assert served == home_page(customer=customer, csrf_token=token, csrf_field=field)
    assert scripts == {"embedded": 2, "flask_app": 1 if customer else 0}.get(example.name, 0)
