"""A callback of another browser, flow, customer or client."""

from __future__ import annotations

from datetime import timedelta

from finch_middleware import Customer
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import NAVIGATION, Browser, MakeSite
from tests.story.oracle import attempt_of, code_of, tokens_of
from tests.story.ways import connected


def test_a_person_who_is_too_late_starts_again_with_a_button(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
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


def test_who_holds_several_flows_gets_the_one_of_the_answer(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
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
