"""What the application does with a connection afterwards, at the fake Finch itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from finch_middleware import FinchRefused, FinchUnavailable, StorageUnavailable
from finch_middleware.testing import Behaviour, FakeFinch, add_connection
from finch_middleware.testing.sample_records import an_attempt
from tests.site import Browser, Site


@pytest.fixture
def connection_id(fake: FakeFinch, site: Site, browser: Browser) -> str:
    browser.get(fake.allow(browser.location("acme")))
    [connection] = site.finch.connections.for_customer("acme")
    return connection.connection_id


def test_a_refreshed_connection_has_finchs_present_word(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    fake.script("introspect", Behaviour.alter(connection_status={"status": "reauth"}))

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.status == "reauth"
    stored = site.finch.connections.get(connection_id, customer_id="acme")
    assert stored is not None
    assert stored.status == "reauth"
    assert stored.access_token.reveal() in fake.ledger.tokens


@pytest.mark.parametrize("status", [None, "down", {"status": 3}, {"status": "<script>"}])
def test_a_word_that_is_none_changes_nothing(
    fake: FakeFinch, site: Site, connection_id: str, status: object
) -> None:
    fake.script("introspect", Behaviour.alter(connection_status=status))

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.status is None


def test_a_refresh_that_meets_another_write_tries_again_on_what_stands(
    fake: FakeFinch, site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, swaps = site.finch.storage, []
    swap = storage.swap

    def meets_another(old: Any, new: Any) -> bool:
        if not swaps:
            assert swap(old, dataclasses.replace(old, products=("payroll",)))
        swaps.append(new)
        return swap(old, new)

    monkeypatch.setattr(storage, "swap", meets_another)

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.products == ("payroll",)
    assert refreshed.status == "connected"


def test_a_refresh_that_never_gets_its_turn_says_so(
    site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.finch.storage, "swap", lambda old, new: False)

    with pytest.raises(StorageUnavailable):
        site.finch.connections.refresh(connection_id, customer_id="acme")


def test_a_disconnected_connection_is_ended_at_finch_and_forgotten_here(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    ended = site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert ended
    assert fake.ledger.calls("disconnect") == 1
    assert site.finch.connections.for_customer("acme") == []


def test_a_connection_that_finch_did_not_end_stays(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    fake.script("disconnect", Behaviour.error(500))

    with pytest.raises(FinchUnavailable):
        site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert site.finch.connections.get(connection_id, customer_id="acme") is not None


def test_a_token_that_finch_does_not_know_is_refused_and_its_row_stays(site: Site) -> None:
    made_up = add_connection(site.finch, customer_id="acme")

    with pytest.raises(FinchRefused):
        site.finch.connections.disconnect(made_up.connection_id, customer_id="acme")

    assert site.finch.connections.get(made_up.connection_id, customer_id="acme") is not None


def test_a_connection_that_finch_ended_before_can_be_forgotten(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    kept = site.finch.storage.get(connection_id)
    site.finch.connections.disconnect(connection_id, customer_id="acme")
    assert kept is not None
    site.finch.storage.settle(an_attempt(), kept)  # as where the delete had failed
    calls = len(fake.ledger.requests)

    others, first, second = (
        site.finch.connections.forget(connection_id, customer_id=customer)
        for customer in ("other", "acme", "acme")
    )

    assert (others, first, second) == (False, True, False)
    assert site.finch.connections.for_customer("acme") == []
    assert len(fake.ledger.requests) == calls


def test_nobody_refreshes_or_ends_another_customers_connection(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    refreshed = site.finch.connections.refresh(connection_id, customer_id="other")
    ended = site.finch.connections.disconnect(connection_id, customer_id="other")

    assert refreshed is None
    assert not ended
    assert fake.ledger.calls("introspect") == 0
    assert fake.ledger.calls("disconnect") == 0
