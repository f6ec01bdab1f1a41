"""Messages of windows and pages that are not Finch's, in a real browser (T26)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.browser.pages import BEGIN, CALLBACK, Files, Latecomer, connected
from tests.browser.test_embedded import (
    FRAME,
    PAGE,
    SCRIPT,
    choose,
    expect,
    own_page,
    playwright,
    press,
    sdk,
)
from tests.serving import served

__all__ = ["own_page", "sdk"]


def says(code: str, state: str) -> dict[str, str]:
    """What Finch Connect says to the page when the employer has consented."""
    return {"name": "finch-auth-message-v2", "kind": "success", "code": code, "state": state}


def test_t26_a_foreign_windows_message_is_not_even_listened_to(
    new_context: Callable[..., playwright.BrowserContext],
    fake: FakeFinch,
    own_page: Callable[..., str],
    tls: tuple[Path, Path],
) -> None:
    storage, files = MemoryStorage(), Files()
    address = own_page(PAGE, storage=storage, spool=None)
    files.pages = {"/": f"<script>const other = () => open('{address}')</script>"}
    with served(files, host="app.evil.test", tls=tls) as stranger:
        attacker = new_context().new_page()
        attacker.goto(stranger)
        with attacker.expect_popup() as opened:
            attacker.evaluate("window.victim = other(), undefined")
        page = opened.value
        handed = []
        page.on("request", lambda r: handed.append(r.url) if CALLBACK in r.url else None)
        with page.expect_response(f"**{BEGIN}") as begun:
            press(page)
        expect(page.locator(FRAME)).to_be_visible()
        page.evaluate("addEventListener('message', e => { window.came = e.origin; })")

        # Even with the state of the flow, which a stranger cannot know.
        message = says(fake.issue_code(customer_id="acme"), begun.value.json()["state"])
        attacker.evaluate("message => victim.postMessage(message, '*')", message)
        page.wait_for_function("window.came")

        assert page.evaluate("window.came") == stranger
        expect(page.locator(FRAME)).to_be_visible()
    assert handed == []
    assert fake.ledger.calls("token") == 0
    assert storage.for_customer("acme") == []


def test_t26_a_message_that_the_sdk_lets_pass_spends_no_code(
    page: playwright.Page, fake: FakeFinch, own_page: Callable[..., str]
) -> None:
    storage = MemoryStorage()
    page.goto(own_page(PAGE, storage=storage, spool=None))
    code = fake.issue_code(customer_id="acme")
    press(page)
    expect(page.locator(FRAME)).to_be_visible()

    # The SDK compares the beginning of an origin alone. A script cannot choose its origin.
    with page.expect_response(f"**{CALLBACK}") as response:
        page.evaluate(
            "([data, origin]) => dispatchEvent(new MessageEvent('message', {data, origin}))",
            [says(code, "forged"), fake.connect_origin + "9.evil.test"],
        )

    assert response.value.status == 400
    assert response.value.json()["reason"] == "state_mismatch"
    assert fake.ledger.calls("token") == 0
    assert storage.for_customer("acme") == []


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_t26_a_page_on_another_origin_of_the_site_connects_only_where_it_is_named(
    page: playwright.Page, fake: FakeFinch, tls: tuple[Path, Path], sdk: Path, named: bool
) -> None:
    files, late = Files(), Latecomer()
    with (
        served(files, host="app.example.test", tls=tls) as app,
        served(late, host="api.example.test", tls=tls) as server,
    ):
        policy = f"default-src 'none'; script-src 'self'; connect-src {server}; frame-src http:"
        files.policy = policy
        files.pages = {
            "/": PAGE.replace("{server}", server),
            "/sdk.js": sdk,
            "/connect.js": SCRIPT,
        }
        origins = {"spa_origins": [app], "return_to": f"{app}/"} if named else {}
        late.app = connected(fake, server, Files(), **origins)
        page.goto(app)

        press(page)
        if named:
            choose(page, "Allow")
            page.wait_for_url(f"{app}/?finch=connected")
        else:
            expect(page.locator("output")).to_contain_text("We could not reach the server")

        assert fake.ledger.calls("sessions") == fake.ledger.calls("token") == int(named)
        assert len(page.context.cookies(server)) == int(named)
