"""Finch is away, refuses or answers oddly: what is spent, what helps, what is reported."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import SAME_ORIGIN_FETCH, Answer, Browser, Site
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


class Fault(NamedTuple):
    """What Finch does, and what must come of it."""

    behaviour: Behaviour
    status: int
    reason: str
    level: int


#: Finch provably did nothing: the code is unspent, and the same address works later.
UNSPENT = {
    "client": Fault(
        Behaviour.error(401, name="invalid_client_error"), 500, "client_rejected", logging.CRITICAL
    ),
    "unpaid": Fault(
        Behaviour.error(402, name="payment_required"), 503, "payment_required", logging.CRITICAL
    ),
    "throttled": Fault(
        Behaviour.error(429, name="rate_limit_exceeded_error"), 503, "throttled", logging.WARNING
    ),
    "throttled-long": Fault(
        Behaviour.error(429, headers={"Retry-After": "3600"}), 503, "throttled", logging.WARNING
    ),
}

#: The code is spent, or may be: the person starts again.
SPENT = {
    "grant": Fault(
        Behaviour.error(400, name="invalid_grant_error"), 400, "code_rejected", logging.WARNING
    ),
    "old-grant": Fault(
        Behaviour.error(400, name="invalid_grant"), 400, "code_rejected", logging.WARNING
    ),
    "malformed": Fault(
        Behaviour.error(401, name="invalid_request_error"), 502, "bad_response", logging.ERROR
    ),
    "redirect": Fault(
        Behaviour.redirect("https://evil.example/"), 502, "bad_response", logging.ERROR
    ),
    "html": Fault(Behaviour.garbage("html"), 502, "bad_response", logging.ERROR),
    "array": Fault(Behaviour.garbage("array"), 502, "bad_response", logging.ERROR),
    "no-token": Fault(Behaviour.without("access_token"), 502, "bad_response", logging.ERROR),
    "server": Fault(Behaviour.error(500, name="server_error"), 502, "ambiguous", logging.ERROR),
    "gateway": Fault(
        Behaviour.error(502, name="bad_gateway_error", processed=True),
        502,
        "ambiguous",
        logging.ERROR,
    ),
    "reset": Fault(Behaviour.reset(), 502, "ambiguous", logging.ERROR),
    "reset-late": Fault(Behaviour.reset(processed=True), 502, "ambiguous", logging.ERROR),
    "cut": Fault(Behaviour.close(after_bytes=400, processed=True), 502, "ambiguous", logging.ERROR),
}


#: Of these no header arrives, and so no request id.
UNHEARD = {"reset", "reset-late"}


def by_script(browser: Browser, callback: str) -> Answer:
    return browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)


@both_ways
@pytest.mark.parametrize("name", UNSPENT)
def test_what_finch_did_not_act_on_may_be_reloaded(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    fault = UNSPENT[name]
    callback = fake.allow(browser.location())
    finch = Overheard()
    fake.script("token", finch.of(fault.behaviour))

    refused = by_script(browser, callback)
    standing = attempt_of(site, fake, code_of(callback))
    answer = browser.get(callback)

    assert refused.status == fault.status
    assert refused.json["outcome"] == "failed"
    assert (refused.json["reason"], refused.json["retry"]) == (fault.reason, "reload")
    assert standing is None
    [event] = site.named("finch.exchange.finch_unavailable")
    assert (event.level, event.reason) == (fault.level, fault.reason)
    assert event.reference == refused.json["reference"]
    assert [event.request_id] == finch.request_ids
    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@both_ways
@pytest.mark.parametrize("name", SPENT)
def test_what_finch_may_have_acted_on_is_never_presented_again(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    fault = SPENT[name]
    callback = fake.allow(browser.location())
    finch = Overheard()
    fake.script("token", finch.of(fault.behaviour))

    first, second = by_script(browser, callback), by_script(browser, callback)

    assert first.status == second.status == fault.status
    assert first.json == second.json
    assert (first.json["reason"], first.json["retry"]) == (fault.reason, "restart")
    assert fake.ledger.presented(code_of(callback)) == 1
    [request_id] = [None] if name in UNHEARD else finch.request_ids
    [event] = site.named(f"finch.exchange.{fault.reason}")
    assert (event.level, event.reference) == (fault.level, first.json["reference"])
    assert event.request_id == request_id
    attempt = attempt_of(site, fake, code_of(callback))
    assert attempt is not None
    ambiguous = fault.reason == "ambiguous"
    assert attempt.state is (AttemptState.AMBIGUOUS if ambiguous else AttemptState.FAILED)
    assert (attempt.reason, attempt.request_id) == (fault.reason, request_id)
    assert nothing_stored(site)


def test_whoever_starts_again_after_an_unseen_answer_gets_the_same_connection(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.reset(processed=True))
    browser.get(callback)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("reauthenticate") == 1
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.connection_id == fake.ledger.codes[0].connection_id
    assert connection.access_token.reveal() == fake.ledger.tokens[1]


@every_way
def test_a_finch_that_cannot_be_reached_may_be_tried_later(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    fake.stop()

    refused = comeback.brought_by(browser)
    standing, empty = attempt_of(site, fake, comeback.code), nothing_stored(site)
    fake.start()
    answer = comeback.brought_by(browser)

    assert refused.status == 502
    assert "We could not reach Finch" in refused.text
    assert ('href=""' if flow == "redirect" else '"retry": "reload"') in refused.text
    [event] = site.named("finch.exchange.finch_unavailable")
    assert (event.level, event.reason) == (logging.WARNING, "unreachable")
    assert str(event.reference) in refused.text
    assert (standing, empty) == (None, True)
    assert connected(answer)
    assert fake.ledger.presented(comeback.code) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.stall(processed=True),
        Behaviour.stall(after_bytes=60, processed=True),
        Behaviour.drip_headers(),
        Behaviour.drip_body(),
    ],
    ids=["stall", "stall-in-headers", "drip-headers", "drip-body"],
)
def test_an_answer_that_does_not_come_in_time_is_ambiguous(
    fake: FakeFinch, make_site: Callable[..., Site], behaviour: Behaviour
) -> None:
    site = make_site(exchange_deadline=timedelta(seconds=0.3))
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", behaviour)

    answer = by_script(browser, callback)

    assert (answer.status, answer.json["reason"]) == (502, "ambiguous")
    [event] = site.named("finch.exchange.ambiguous")
    assert event.reason == "timeout"
    assert fake.ledger.calls("token") == 1


def test_a_short_retry_after_is_waited_for(fake: FakeFinch, site: Site, browser: Browser) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.error(429, headers={"Retry-After": "0"}), times=2)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert len(exchanges(fake)) == 3
    assert len(site.named("finch.connection.stored")) == 1
    assert site.named("finch.exchange.finch_unavailable") == []


def test_a_long_retry_after_is_passed_on(fake: FakeFinch, site: Site, browser: Browser) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.error(429, headers={"Retry-After": "3600"}))

    answer = browser.get(callback)

    assert answer.headers["Retry-After"] == "3600"
    assert len(exchanges(fake)) == 1


def test_a_claim_that_could_not_be_released_is_reported(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.error(402, name="payment_required"))
    faulty.down("release", times=1)

    answer = browser.get(callback)

    assert answer.status == 503
    [unreleased] = faulty_site.named("finch.claim.not_released")
    [refused] = faulty_site.named("finch.exchange.finch_unavailable")
    assert unreleased.level == logging.ERROR
    assert str(unreleased.reference) == str(refused.reference)
    assert str(refused.reference) in answer.text


def test_unknown_fields_of_an_answer_are_kept(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(of_tomorrow={"a": [1, "ä"]}))

    browser.get(callback)

    [connection] = site.finch.connections.for_customer("acme")
    assert connection.details()["of_tomorrow"] == {"a": [1, "ä"]}
    assert json.dumps(connection.details()).count(fake.ledger.tokens[0]) == 0
