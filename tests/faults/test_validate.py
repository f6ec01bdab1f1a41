"""Validate: a 200 may come from something else than Finch, or name another customer."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import Browser, MakeSite, Site
from tests.story.oracle import Overheard, code_of, nothing_stored, tokens_of
from tests.story.ways import by_script

ANOTHERS: dict[str, Any] = {
    "another": {"customer_id": "umbrella"},
    "no connection": {"connection_id": None},
    "another kind of token": {"token_type": "mac"},
}


@pytest.mark.parametrize("name", ANOTHERS)
def test_validate_other_customer_is_quarantined_and_an_operator_can_open_it(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, name: str
) -> None:
    finch = Overheard()
    fake.script("token", finch.of(Behaviour.alter(**ANOTHERS[name])))

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [each.status for each in answers] == [403, 403]
    assert answers[0].json == answers[1].json
    assert (answers[0].json["reason"], answers[0].json["retry"]) == (
        "customer_unconfirmed",
        "restart",
    )
    [event] = site.events
    assert (event.name, event.level) == ("finch.token.quarantined", logging.CRITICAL)
    assert nothing_stored(site)
    [attempt] = site.finch.recovery.quarantined()
    assert (attempt.state, attempt.reason) == (AttemptState.QUARANTINED, event.reason)
    assert [attempt.request_id] == [event.request_id] == finch.request_ids
    assert attempt.sealed is not None
    assert fake.ledger.tokens[0] not in attempt.sealed.text
    opened = site.finch.vault.open_grant(attempt)
    assert [json.loads(opened.reveal())["access_token"]] == list(fake.ledger.tokens)
    assert fake.ledger.calls("disconnect") == 0


@pytest.mark.parametrize(
    "odd",
    [
        {"customer_id": 12.0},
        {"connection_id": 7},
        {"token_type": "mac"},
        {"provider_id": 7},
        {"products": "company"},
        {"client_type": ["sandbox"]},
    ],
    ids=str,
)
def test_validate_other_customer_is_recovered_once_finch_confirms_the_expected_one(
    fake: FakeFinch, site: Site, browser: Browser, odd: dict[str, Any]
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(**odd))
    browser.get(callback)
    [attempt] = site.finch.recovery.quarantined()

    completed = site.finch.recovery.complete(attempt)

    assert completed
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert fake.ledger.presented(code_of(callback)) == 1


@pytest.mark.parametrize(
    "token",
    ["~" * 4096, "".join(map(chr, range(0x21, 0x7F))), "a" * 4095 + "=", "%00;DROP'--\"\\"],
    ids=["4 KiB", "every character", "padded", "hostile"],
)
def test_validate_odd_token_comes_back_byte_for_byte(
    fake: FakeFinch, make_site: MakeSite, token: str
) -> None:
    site = make_site()
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(access_token=token))

    browser.get(callback)

    assert tokens_of(site, "acme") == [token]
