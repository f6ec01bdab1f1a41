"""Signing in again: which connection is renewed, with which products, and under which customer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from finch_middleware import AlreadyConnected, FinchRefused, UnknownConnection, UsageError
from finch_middleware.testing import Behaviour, FakeFinch, add_connection
from finch_middleware.testing.fake_finch import Unknowns
from tests.site import Browser, Site


def begin(site: Site, **opening: Any) -> str:
    return site.finch.begin(customer_id="acme", **{"customer_name": "Acme"} | opening).headers[
        "Location"
    ]


def connect(fake: FakeFinch, browser: Browser, **consent: Any) -> None:
    browser.get(fake.allow(browser.location("acme"), **consent))


@pytest.mark.parametrize("named", [True, False], ids=["named", "the only one"])
def test_a_stored_connection_is_renewed_without_asking_for_a_new_one(
    fake: FakeFinch, site: Site, browser: Browser, named: bool
) -> None:
    connect(fake, browser)
    [before] = site.finch.connections.for_customer("acme")

    begin(site, **({"connection_id": before.connection_id, "customer_name": ""} if named else {}))

    assert (fake.ledger.calls("sessions"), fake.ledger.calls("reauthenticate")) == (1, 1)
    session = fake.ledger.sessions[-1]
    assert session.connection_id == before.connection_id
    assert session.products == before.products


def test_products_can_be_asked_for_anew(fake: FakeFinch, site: Site, browser: Browser) -> None:
    connect(fake, browser)
    [before] = site.finch.connections.for_customer("acme")

    begin(site, connection_id=before.connection_id, products=["company", "payment"])

    assert fake.ledger.sessions[-1].products == ("company", "payment")


@pytest.mark.parametrize("customer_id", ["globex", "acme"])
def test_another_customers_connection_is_as_one_that_does_not_exist(
    fake: FakeFinch, site: Site, customer_id: str
) -> None:
    theirs = add_connection(site.finch, customer_id="globex").connection_id
    asked = theirs if customer_id == "globex" else "unknown"

    with pytest.raises(UnknownConnection) as caught:
        begin(site, connection_id=asked)

    assert asked not in str(caught.value)
    assert fake.ledger.requests == ()


@pytest.mark.parametrize("given", [{"provider": "gusto"}, {"session": object()}])
def test_a_named_connection_has_its_provider_and_session_already(
    site: Site, given: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="cannot be combined with session or provider"):
        begin(site, connection_id="c-1", **given)


def test_a_refusal_of_a_named_connection_is_an_error(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    connect(fake, browser)
    [before] = site.finch.connections.for_customer("acme")
    fake.script("reauthenticate", Behaviour.error(404))

    with pytest.raises(FinchRefused):
        begin(site, connection_id=before.connection_id)


def test_a_connection_that_finch_has_ended_is_connected_anew(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    connect(fake, browser)
    [before] = site.finch.connections.for_customer("acme")
    fake.ledger.disconnect(before.connection_id)

    connect(fake, browser)

    ids = {each.connection_id for each in site.finch.connections.for_customer("acme")}
    assert len(ids) == 2
    assert before.connection_id in ids


def test_another_provider_is_a_new_connection_and_never_the_stored_one(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    connect(fake, browser, provider="gusto")

    with pytest.raises(AlreadyConnected):
        begin(site, provider="adp_run")

    assert fake.ledger.calls("reauthenticate") == 0


@pytest.fixture
def with_unknowns(tmp_path: Any) -> Iterator[Callable[[Unknowns], tuple[FakeFinch, Site]]]:
    open_ones: list[Any] = []

    def made(unknowns: Unknowns) -> tuple[FakeFinch, Site]:
        fake = FakeFinch(unknowns=unknowns).start()
        site = Site(fake, spool=str(tmp_path / "spool")).__enter__()
        open_ones.extend([fake.stop, lambda: site.__exit__(None, None, None)])
        return fake, site

    yield made
    for close in reversed(open_ones):
        close()


def test_of_two_connections_the_provider_decides_or_else_the_person(
    with_unknowns: Callable[[Unknowns], tuple[FakeFinch, Site]],
) -> None:
    fake, site = with_unknowns(Unknowns(connected_customer="refused per provider"))
    browser = Browser(site)
    for provider in ("gusto", "adp_run"):
        site.opening["provider"] = provider
        connect(fake, browser, provider=provider)
    assert len(site.finch.connections.for_customer("acme")) == 2

    begin(site, provider="adp_run")
    renewed = fake.ledger.sessions[-1]
    begin(site)
    anew = fake.ledger.sessions[-1]

    assert (renewed.provider_id, fake.ledger.calls("reauthenticate")) == ("adp_run", 1)
    assert (anew.provider_id, anew.connection_id) == (None, None)


@pytest.mark.parametrize(
    "unknowns",
    [
        Unknowns(reauthenticated_customer="null"),
        Unknowns(old_token="dies", refusal_names_connection=False),
    ],
)
def test_a_renewed_connection_keeps_its_customer_and_has_the_new_token(
    with_unknowns: Callable[[Unknowns], tuple[FakeFinch, Site]], unknowns: Unknowns
) -> None:
    fake, site = with_unknowns(unknowns)
    browser = Browser(site)
    connect(fake, browser)

    connect(fake, browser)

    [renewed] = site.finch.connections.for_customer("acme")
    assert renewed.access_token.reveal() == fake.ledger.tokens[1]
    assert site.named("finch.token.quarantined") == []


def test_a_grant_without_customer_for_an_unknown_connection_stays_in_quarantine(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    fake.script("token", Behaviour.alter(customer_id=None))

    connect(fake, browser)

    assert site.finch.connections.for_customer("acme") == []
    [event] = site.named("finch.token.quarantined")
    assert event.reason == "incomplete"
