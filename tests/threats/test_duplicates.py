"""T5 to T8: the same callback twice, by people, tabs and bots."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import ConnectSession
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import NAVIGATION, Browser, MakeSite, Site
from tests.storages import SERVERS, every_storage
from tests.story.oracle import code_of, same, tokens_of
from tests.story.ways import allowed, another, at_once, both_ways, connected, every_way
from tests.threats.desk import component
from tests.threats.sizes import ORDERS
from tests.worker_processes import workers_of

_DUPLICATES = 64


@every_storage
@every_way
def test_t05_sixty_four_identical_requests_at_once_make_one_call_and_get_one_answer(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    fake.script("token", Behaviour.delay(0.2))

    answers = at_once([lambda: comeback.brought_by(another(browser))] * _DUPLICATES)

    assert fake.ledger.presented(comeback.code) == 1
    assert len({(each.status, each.location, each.body) for each in answers}) == 1
    assert connected(answers[0])
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert len(site.named("finch.connection.stored")) == 1
    assert site.errors == []


@pytest.mark.full
@pytest.mark.parametrize("storage_options", ["sqlite", *SERVERS], indirect=True)
def test_t05_sixty_four_identical_requests_to_four_processes_make_one_call(
    fake: FakeFinch, make_site: MakeSite, storage_options: dict[str, Any], tmp_path: Path
) -> None:
    site = make_site(clock=lambda: datetime.now(UTC))  # the time that all processes share
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.delay(0.2))
    log = tmp_path / "workers.log"
    patient = {"waiting_duplicates": 8}  # each process has a thread for every request

    with workers_of(fake, site, storage_options, *[patient] * 4, log=log) as places:
        visits = [
            partial(Browser(places[number % 4], dict(browser.cookies)).get, callback)
            for number in range(_DUPLICATES)
        ]
        answers = at_once(visits)

    assert fake.ledger.presented(code_of(callback)) == 1
    assert {(each.status, each.location) for each in answers} == {(303, answers[0].location)}
    assert connected(answers[0])
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    written = log.read_text()
    assert not [secret for secret in (*fake.ledger.tokens, code_of(callback)) if secret in written]


@every_way
def test_t06_a_reload_gets_the_same_answer_for_ten_minutes_and_makes_no_call(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    before = dict(browser.cookies)

    first = comeback.brought_by(browser)
    reloads = [comeback.brought_by(each) for each in (browser, Browser(site, before))]
    clock.move(timedelta(minutes=10))
    reloads.append(comeback.brought_by(browser))
    events = list(site.events)
    clock.move(timedelta(seconds=1))
    late = comeback.brought_by(browser)
    clock.move(timedelta(minutes=2))
    too_late = comeback.brought_by(browser)

    assert connected(first)
    assert all(same(first, each) for each in reloads)
    assert [event.name for event in events] == ["finch.connection.stored"]
    assert [late.status, too_late.status] == [400, 400]
    reasons = [event.reason for event in site.named("finch.callback.rejected")]
    assert reasons == ["already_used", "expired"]
    assert fake.ledger.calls("token") == 1


PREFETCHES = {
    "Sec-Purpose": "prefetch",
    "Sec-purpose": "prefetch;prerender",
    "Purpose": "prefetch",
    "X-Purpose": "preview",
    "X-Moz": "prefetch",
}


@pytest.mark.parametrize("header", PREFETCHES)
def test_t07_a_prefetch_makes_no_call_and_leaves_the_flow_usable(
    fake: FakeFinch, site: Site, browser: Browser, header: str
) -> None:
    callback = fake.allow(browser.location("acme"))
    headers = {**NAVIGATION, header: PREFETCHES[header]}

    prefetched = browser.request("GET", callback, headers=headers)
    asked = browser.request("HEAD", callback, headers=headers)
    calls = fake.ledger.calls("token")
    visited = browser.get(callback)

    assert (prefetched.status, asked.status, calls) == (503, 200, 0)
    assert prefetched.headers["Cache-Control"] == "no-store"
    assert asked.body == b""
    assert visited.status == 303
    assert fake.ledger.presented(code_of(callback)) == 1


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 200), ("OPTIONS", 204), ("PUT", 405), ("DELETE", 405), ("PROPFIND", 405)],
)
def test_t07_only_get_and_post_exchange(
    fake: FakeFinch, browser: Browser, method: str, status: int
) -> None:
    callback = fake.allow(browser.location("acme"))

    answer = browser.request(method, callback, headers=NAVIGATION)
    calls = fake.ledger.calls("token")
    visited = browser.get(callback)

    assert (answer.status, calls) == (status, 0)
    assert method == "HEAD" or "GET" in answer.headers["Allow"]
    assert visited.status == 303


def _begun(browser: Browser, customers: list[str], *, clock: Clock) -> list[str]:
    locations = []
    for customer in customers:
        # Which of two tickets is the newer one is a matter of their times.
        clock.move(timedelta(milliseconds=1))
        locations.append(browser.location(customer))
    return locations


@both_ways
@pytest.mark.parametrize("flows", [2, 5, pytest.param(50, marks=pytest.mark.full)])
def test_t08_the_newest_five_flows_of_a_browser_end_in_every_order(
    fake: FakeFinch, site: Site, clock: Clock, flows: int
) -> None:
    orders = list(itertools.permutations(range(min(flows, 5))))
    random.Random(flows).shuffle(orders)

    for number, order in enumerate(orders[: ORDERS()]):
        browser = Browser(site)
        customers = [f"customer-{number}-{flow}" for flow in range(flows)]
        locations = _begun(browser, customers, clock=clock)
        newest, old = locations[-5:], locations[:-5]
        refused = [browser.get(fake.allow(each)) for each in old[:2]]
        answers = [browser.get(fake.allow(newest[place])) for place in order]

        assert {answer.status for answer in refused} <= {400, 403}
        assert {answer.status for answer in answers} == {303}
        stored = [len(site.finch.connections.for_customer(each)) for each in customers]
        assert stored == [0] * len(old) + [1] * len(newest)


def _session(fake: FakeFinch) -> ConnectSession:
    return ConnectSession("session-1", f"{fake.connect_origin}/authorize?session=session-1")


def test_t08_the_cookie_of_a_flow_is_bound_to_host_tls_and_http(fake: FakeFinch) -> None:
    finch = component(fake, redirect_uri="https://app.test/finch/callback")

    response = finch.begin(customer_id="acme", customer_name="Acme", session=_session(fake))

    [header] = response.headers.getlist("Set-Cookie")
    attributes = {part.strip() for part in header.split(";")[1:]}
    assert header.startswith("__Host-finch-")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= attributes
    assert not [each for each in attributes if each.startswith("Domain")]
