"""The settings page of the Flask example, through a connection's life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finch_middleware import FinchConnect
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing import make_finch
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import sync_api
from tests.browser.serving import example

playwright = sync_api()
expect = playwright.expect
expect.set_options(timeout=120_000)

KEY = new_key("browser")
IN_NEED = "needs a new sign-in"


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/finch.db"


@pytest.fixture
def finch(fake: FakeFinch, storage: str) -> FinchConnect:
    """Another process of the application."""
    return make_finch(fake, storage=storage, key=KEY)


@pytest.fixture
def connection_id(page: playwright.Page, fake: FakeFinch, storage: str) -> Iterator[str]:
    """Acme's connection with two entities, on its settings page in the browser."""
    with example("flask_app", fake, FINCH_STORAGE_URL=storage, FINCH_KEY=KEY) as address:
        page.goto(address)
        page.get_by_role("button", name="Acme Inc.").click()
        page.get_by_role("button", name="Connect payroll").click()
        page.wait_for_url(f"{fake.connect_origin}/authorize?**")
        page.goto(fake.allow(page.url, entities=2))
        yield fake.ledger.codes[0].connection_id


def test_a_person_repairs_and_ends_a_connection(
    page: playwright.Page, fake: FakeFinch, finch: FinchConnect, connection_id: str
) -> None:
    entities = page.get_by_role("list", name="Entities").get_by_role("listitem")
    expect(entities).to_have_text(["Main", "West"])
    expect(page.get_by_role("status")).to_have_text("You are connected.")

    # Without a reload: the page notices what another process stores.
    fake.set_status(connection_id, "reauth", entity=fake.account(connection_id).entity_ids[1])
    finch.connections.refresh(connection_id, customer_id="acme")
    expect(entities).to_have_text(["Main", f"West {IN_NEED}"])

    page.get_by_role("button", name="Sign in again").click()
    page.get_by_role("button", name="Allow").click()
    expect(entities).to_have_text(["Main", "West"])
    assert [each.connection_id for each in fake.ledger.sessions] == [None, connection_id]

    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("link", name="Keep it connected").click()
    expect(entities).to_have_count(2)
    assert fake.ledger.calls("disconnect") == 0
    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_contain_text("Disconnected.")
    expect(page.get_by_text("Nothing is connected yet.")).to_be_visible()
    assert fake.ledger.calls("disconnect") == 1


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
