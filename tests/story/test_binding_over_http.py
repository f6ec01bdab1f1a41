"""Whose return it is: another browser, another flow, another customer, another client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest

from finch_middleware import Customer
from finch_middleware.attempts import AttemptState
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, NAVIGATION, SAME_ORIGIN_FETCH, Browser, Site
from tests.story.oracle import (
    Overheard,
    attempt_of,
    code_of,
    exchanges,
    nothing_stored,
    tokens_of,
)
from tests.story.ways import allowed, connected, every_way

both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


def rejected(site: Site) -> list[str | None]:
    """Why returns were refused that nothing was done about."""
    return [event.reason for event in site.named("finch.callback.rejected")]


@every_way
def test_another_browser_cannot_finish_a_flow(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)

    answer = comeback.brought_by(Browser(site))

    assert answer.status == 400
    assert "This was not started in this browser" in answer.text
    assert rejected(site) == ["no_ticket"]
    assert fake.ledger.calls("token") == 0
    assert attempt_of(site, fake, comeback.code) is None
    assert connected(comeback.brought_by(browser))


def test_a_state_of_another_browser_is_refused(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    victim = Browser(site)
    victim.location()

    answer = victim.get(callback)

    assert answer.status == 400
    assert rejected(site) == ["state_mismatch"]
    assert fake.ledger.calls("token") == 0


@pytest.mark.parametrize("state", ["", "x", "A" * 22, "ä" * 11, "a b"])
def test_a_state_that_is_not_of_this_browser_is_refused(
    fake: FakeFinch, site: Site, browser: Browser, state: str
) -> None:
    callback = fake.allow(browser.location())
    code = code_of(callback)

    answer = browser.fetch({"code": code, "state": state})

    assert answer.status == 400
    assert answer.json["reason"] == "state_mismatch"
    assert fake.ledger.calls("token") == 0


@every_way
def test_a_ticket_holds_for_its_time_and_a_minutes_skew(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    clock.move(timedelta(minutes=61))

    answer = comeback.brought_by(browser)

    assert connected(answer)
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@every_way
def test_a_ticket_whose_time_is_over_spends_and_keeps_nothing(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    clock.move(timedelta(minutes=61, seconds=1))

    answer = comeback.brought_by(browser)

    assert answer.status == 400
    assert "This took too long" in answer.text
    [event] = site.named("finch.callback.rejected")
    assert (event.level, event.reason) == (logging.WARNING, "expired")
    assert str(event.reference) in answer.text
    assert fake.ledger.calls("token") == 0
    assert attempt_of(site, fake, comeback.code) is None
    assert nothing_stored(site)


@pytest.mark.parametrize("storage_options", ["memory"], indirect=True)
def test_whoever_comes_too_late_starts_again_with_a_button(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    acme = Customer(id="acme", name="Acme Inc.")
    site = make_site(begin_path="/connect-payroll", customer_of=lambda request: acme)
    browser = Browser(site)
    late = fake.allow(browser.location())
    clock.move(timedelta(hours=2))

    page = browser.get(late)
    sent = {**NAVIGATION, "Sec-Fetch-Site": "same-origin", "Origin": site.origin}
    again = browser.request("POST", "/connect-payroll", headers=sent)
    answer = browser.get(fake.allow(again.location))

    assert '<form method="post" action="/connect-payroll">' in page.text
    assert 'href="/settings"' in page.text
    assert connected(answer)


@every_way
def test_a_code_of_another_customer_is_quarantined(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    redirect_uri = site.origin + CALLBACK if flow == "redirect" else None
    stolen = fake.issue_code(customer_id="umbrella", redirect_uri=redirect_uri)
    comeback = allowed(fake, browser, "acme", flow=flow).with_code(stolen)

    answer = comeback.brought_by(browser)

    assert answer.status == 403
    assert "This may be another company" in answer.text
    assert nothing_stored(site)
    assert len(fake.ledger.minted(stolen)) == 1
    assert fake.ledger.calls("disconnect") == 0
    [event] = site.named("finch.token.quarantined")
    assert (event.level, event.reason) == (logging.CRITICAL, "other_customer")
    assert str(event.reference) in answer.text


@pytest.mark.parametrize("echo_state", [False], ids=["no-state"])
def test_a_foreign_code_does_not_spend_the_flow(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    stolen = fake.issue_code(customer_id="umbrella", redirect_uri=site.origin + CALLBACK)
    location = browser.location("acme")

    refused = browser.get(f"{CALLBACK}?code={stolen}")
    answer = browser.get(fake.allow(location))

    assert refused.status == 403
    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]


UNCONFIRMED = {
    "another": (Behaviour.alter(customer_id="umbrella"), "other_customer"),
    "null": (Behaviour.alter(customer_id=None), "incomplete"),
    "missing": (Behaviour.without("customer_id"), "incomplete"),
    "no-connection": (Behaviour.without("connection_id"), "incomplete"),
}


@pytest.mark.parametrize("name", UNCONFIRMED)
def test_an_operator_can_open_what_was_quarantined(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    behaviour, reason = UNCONFIRMED[name]
    callback = fake.allow(browser.location())
    finch = Overheard()
    fake.script("token", finch.of(behaviour))

    answer = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert answer.status == 403
    assert answer.json["reason"] == "customer_unconfirmed"
    assert answer.json["retry"] == "restart"
    assert nothing_stored(site)
    [attempt] = site.finch.storage.quarantined()
    assert (attempt.state, attempt.reason) == (AttemptState.QUARANTINED, reason)
    [event] = site.named("finch.token.quarantined")
    assert [attempt.request_id] == [event.request_id] == finch.request_ids
    assert attempt.sealed is not None
    opened = site.finch.vault.open(
        attempt.sealed.text, purpose="quarantine", context=(attempt.attempt_id,)
    )
    assert [json.loads(opened.reveal())["access_token"]] == list(fake.ledger.tokens)


def test_a_reload_of_a_quarantined_return_is_refused_again(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(customer_id="umbrella"))

    first, second = (browser.request("GET", callback, headers=SAME_ORIGIN_FETCH) for _ in "ab")

    assert first.status == second.status == 403
    assert first.json == second.json
    assert fake.ledger.calls("token") == 1
    assert len(site.named("finch.token.quarantined")) == 1


def test_a_customer_id_that_comes_back_as_a_number_is_the_same_customer(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("4711"))
    fake.script("token", Behaviour.alter(customer_id=4711))

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert tokens_of(site, "4711") == list(fake.ledger.tokens)


@every_way
def test_a_code_that_finch_does_not_know_is_presented_once(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    unknown = allowed(fake, browser, flow=flow).with_code("00000000-0000-0000-0000-000000000000")
    finch = Overheard()
    fake.script("token", finch.of(Behaviour.normal()))

    first, second = unknown.brought_by(browser), unknown.brought_by(browser)

    assert (first.status, second.status) == (400, 400)
    assert "This link has expired or was already used" in first.text
    [event] = site.named("finch.exchange.code_rejected")
    assert all(str(event.reference) in answer.text for answer in (first, second))
    assert fake.ledger.presented(unknown.code) == 1
    attempt = attempt_of(site, fake, unknown.code)
    assert attempt is not None
    assert (attempt.state, attempt.reason) == (AttemptState.FAILED, "code_rejected")
    assert [attempt.request_id] == [event.request_id] == finch.request_ids
    assert nothing_stored(site)


@both_ways
def test_a_ticket_of_another_client_is_worth_nothing(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    own = make_site()
    other = make_site(client_id="client-other")
    browser = Browser(own)
    callback = fake.allow(browser.location())

    answer = Browser(other, dict(browser.cookies)).get(callback)

    assert answer.status == 400
    assert rejected(other) == ["no_ticket"]
    assert fake.ledger.calls("token") == 0


@both_ways
@pytest.mark.parametrize("value", ["", "short", "x" * 300, "fm1.k1." + "A" * 200])
def test_a_neighbour_under_our_name_is_passed_over(
    fake: FakeFinch, site: Site, browser: Browser, value: str
) -> None:
    callback = fake.allow(browser.location())
    browser.cookies = {"finch-AAAAAAAA": value, **browser.cookies}

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_who_holds_several_flows_gets_the_one_of_the_answer(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    fake_callbacks = {}
    site = make_site()
    browser = Browser(site)
    for customer in ("acme", "umbrella", "initech"):
        clock.move(timedelta(seconds=1))
        site.opening["return_to"] = f"/of/{customer}"
        fake_callbacks[customer] = fake.allow(browser.location(customer)).partition("&state=")[0]

    answer = browser.get(fake_callbacks["umbrella"])

    assert answer.location.startswith("/of/umbrella?finch=connected")
    assert tokens_of(site, "umbrella") == list(fake.ledger.tokens)
    attempt = attempt_of(site, fake, code_of(fake_callbacks["umbrella"]))
    assert attempt is not None
    assert attempt.customer_ids == ("acme", "initech", "umbrella")
    assert attempt.customer_id == "umbrella"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-Purpose", "prefetch;prerender"),
        ("Purpose", "prefetch"),
        ("Purpose", "preview"),
        ("X-Purpose", "preview"),
        ("X-Moz", "prefetch"),
    ],
)
def test_a_prefetch_spends_nothing(
    fake: FakeFinch, site: Site, browser: Browser, name: str, value: str
) -> None:
    callback = fake.allow(browser.location())

    early = browser.get(callback, **{name: value})
    answer = browser.get(callback)

    assert early.status == 503
    assert early.headers["Cache-Control"] == "no-store"
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("PUT", 405), ("DELETE", 405)]
)
def test_another_method_spends_nothing(
    fake: FakeFinch, site: Site, browser: Browser, method: str, status: int
) -> None:
    callback = fake.allow(browser.location())

    early = browser.request(method, callback)
    answer = browser.get(callback)

    assert early.status == status
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.parametrize("doubled", ["code", "state", "error"])
def test_a_doubled_parameter_spends_nothing(
    fake: FakeFinch, site: Site, browser: Browser, doubled: str
) -> None:
    callback = fake.allow(browser.location())

    answer = browser.get(f"{callback}&{doubled}=x&{doubled}=y")

    assert answer.status == 400
    assert rejected(site) == ["malformed"]
    assert fake.ledger.calls("token") == 0


@both_ways
def test_a_redirect_return_that_is_posted_from_elsewhere_is_refused(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())

    answer = browser.request("POST", callback, headers={"Content-Length": "0"})

    assert answer.status == 403
    assert rejected(site) == ["cross_site"]
    assert exchanges(fake) == []
