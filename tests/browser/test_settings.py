"""The settings page of the Flask example, through a connection's life."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import sync_api
from tests.browser.serving import example

playwright = sync_api()
expect = playwright.expect

SECRET = "5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
IN_NEED = "needs a new sign-in"


@pytest.fixture
def connection_id(page: playwright.Page, fake: FakeFinch) -> Iterator[str]:
    """Acme's connection with two entities, on its settings page in the browser."""
    with example("flask_app", fake, FINCH_WEBHOOK_SECRETS=SECRET) as address:
        fake.deliver_webhooks(f"{address}/finch/webhook", secrets=[SECRET])
        page.goto(address)
        page.get_by_role("button", name="Acme Inc.").click()
        page.get_by_role("button", name="Connect payroll").click()
        page.wait_for_url(f"{fake.connect_origin}/authorize?**")
        page.goto(fake.allow(page.url, entities=2))
        yield fake.ledger.codes[0].connection_id


def settle(page: playwright.Page) -> None:
    """Wait until the page shows what is stored; before, its script may load it once more."""
    page.wait_for_function(
        "sessionStorage.getItem('state') === document.querySelector('[data-state]')?.dataset.state"
    )


def test_a_person_repairs_and_ends_a_connection(
    page: playwright.Page, fake: FakeFinch, connection_id: str
) -> None:
    entities = page.get_by_role("list", name="Entities").get_by_role("listitem")
    expect(entities).to_have_text(["Main", "West"])
    expect(page.get_by_role("status")).to_have_text("You are connected.")

    # Without a reload, the page shows what a webhook has changed.
    fake.set_status(connection_id, "reauth", entity=fake.account(connection_id).entity_ids[1])
    expect(entities).to_have_text(["Main", f"West {IN_NEED}"])
    fake.set_status(connection_id, "reauth")
    expect(page.get_by_text(f"Gusto {IN_NEED}")).to_be_visible()

    settle(page)
    page.get_by_role("button", name="Sign in again").click()
    page.get_by_role("button", name="Allow").click()
    expect(entities).to_have_text(["Main", "West"])
    assert [each.connection_id for each in fake.ledger.sessions] == [None, connection_id]

    settle(page)
    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("link", name="Keep it connected").click()
    expect(entities).to_have_count(2)
    assert fake.ledger.calls("disconnect") == 0
    settle(page)
    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_contain_text("Disconnected.")
    expect(page.get_by_text("Nothing is connected yet.")).to_be_visible()
    assert fake.ledger.calls("disconnect") == 1


def test_an_invited_person_connects_in_another_browser(
    page: playwright.Page,
    new_context: Callable[..., playwright.BrowserContext],
    fake: FakeFinch,
) -> None:
    with example("flask_app", fake) as address:
        page.goto(address)
        page.get_by_role("button", name="Acme Inc.").click()
        page.get_by_role("button", name="Invite someone").click()
        link = page.get_by_label("Link").input_value()
        page.get_by_role("link", name="Back to the payroll").click()
        invited = new_context().new_page()
        invited.goto(link)
        invited.get_by_role("button").click()
        invited.get_by_role("button", name="Allow").click()

        expect(page.get_by_text("Gusto")).to_be_visible()

    assert fake.ledger.codes[0].customer_id == "acme"


def test_a_status_that_no_webhook_reported_is_asked_for_once(
    page: playwright.Page, fake: FakeFinch, connection_id: str
) -> None:
    fake.script("introspect", Behaviour.error(401, name="invalid_token_error"), times=None)
    page.reload()
    before = fake.ledger.calls("introspect")

    for _ in range(3):
        page.wait_for_event("response", lambda seen: seen.url.endswith("/connections.json"))

    expect(page.get_by_text("disconnected")).to_be_visible()
    expect(page.get_by_role("button", name="Connect payroll")).to_be_visible()
    assert fake.ledger.calls("introspect") - before <= 1
