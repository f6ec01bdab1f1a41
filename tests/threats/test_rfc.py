"""What RFC 6749 and RFC 9700 require of a client, where no threat's test shows it."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest

from finch_middleware import ConfigurationError
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import Browser, Site
from tests.threats.desk import begun, component


@pytest.mark.parametrize("option", ["redirect_uri", "api_url", "connect_origin"])
def test_codes_secrets_and_tokens_travel_over_tls_alone(fake: FakeFinch, option: str) -> None:
    plain: Any = {option: "http://finch.example/finch/callback"}

    with pytest.raises(ConfigurationError) as refused:
        component(fake, **plain)

    [fault] = [each for each in refused.value.faults if each.startswith(option)]
    assert "https://" in fault


def test_a_state_is_128_random_bits_and_holds_no_data(fake: FakeFinch) -> None:
    finch = component(fake)

    states = [begun(finch, fake, customer_id="acme").state for _ in range(200)]

    decoded = [base64.urlsafe_b64decode(state + "==") for state in states]
    assert {len(each) for each in decoded} == {16}
    assert len(set(states)) == len(states)
    # Every bit takes both values; the chance that one does not is 2**-199.
    for bit in range(128):
        assert {each[bit // 8] >> bit % 8 & 1 for each in decoded} == {0, 1}
    assert not [each for each in decoded if b"acme" in each]


def test_the_client_authenticates_with_every_session_and_exchange(
    fake: FakeFinch, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location("acme")))

    [session, exchange] = [r for r in fake.ledger.requests if r.endpoint in ("sessions", "token")]
    pair = base64.b64encode(f"{fake.client_id}:{fake.client_secret}".encode()).decode()
    assert session.header("Authorization") == f"Basic {pair}"
    assert json.loads(exchange.body)["client_secret"] == fake.client_secret
    assert fake.client_secret not in session.path + exchange.path


def test_what_is_asked_for_has_no_default(fake: FakeFinch) -> None:
    with pytest.raises(ConfigurationError) as refused:
        component(fake, products=[])

    assert [fault for fault in refused.value.faults if fault.startswith("products")]


def test_a_token_never_reaches_a_browser(fake: FakeFinch, site: Site, browser: Browser) -> None:
    site.opening["flow"] = "embedded"
    opened = cast("dict[str, str]", browser.begin("acme").json)
    fields = fake.allow_embedded(opened["session_id"], state=opened["state"])

    answer = browser.fetch(fields)

    [token] = fake.ledger.tokens
    assert answer.status == 200
    assert token not in f"{answer.headers}{answer.text}"
    assert fake.client_secret not in f"{answer.headers}{answer.text}"
