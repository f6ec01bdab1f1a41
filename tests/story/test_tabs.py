"""Many flows in one browser, finished in any order: the newest five always work."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from finch_middleware import ConnectSession
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Browser, Site
from tests.story.oracle import code_of, tokens_of

KEPT = 5
HEADER_LIMIT_BYTES = 4096

both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


@pytest.fixture
def begin(fake: FakeFinch, site: Site, browser: Browser, clock: Clock) -> Callable[..., str]:
    """Begins a flow of a customer and gets the address of its return, one second later each."""

    def begun(customer_id: str, return_to: str = "/settings") -> str:
        clock.move(timedelta(seconds=1))
        site.opening["return_to"] = return_to
        return fake.allow(browser.location(customer_id))

    return begun


def cookie_bytes(browser: Browser) -> int:
    return len("; ".join(f"{name}={value}" for name, value in browser.cookies.items()))


@both_ways
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
@pytest.mark.parametrize("customers", [("acme", "acme"), ("acme", "umbrella")], ids="-".join)
def test_two_tabs_end_in_either_order(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    begin: Callable[..., str],
    order: Sequence[int],
    customers: Sequence[str],
    echo_state: bool,
) -> None:
    callbacks = [begin(each, f"/tab/{number}") for number, each in enumerate(customers)]

    answers = {number: browser.get(callbacks[number]) for number in order}
    reloads = {number: browser.get(callbacks[number]) for number in order}

    # Without its state a code ends the newest flow that its customer still has.
    told_apart = echo_state or len(set(customers)) > 1
    ended = dict(zip(order, order if told_apart else (1, 0), strict=True))
    for number in order:
        assert answers[number].location.startswith(f"/tab/{ended[number]}?finch=connected")
        assert reloads[number].location == answers[number].location
        assert fake.ledger.presented(code_of(callbacks[number])) == 1
    assert {tokens_of(site, each)[0] for each in customers} <= set(fake.ledger.tokens)


@pytest.mark.parametrize("storage_options", ["memory"], indirect=True)
@pytest.mark.parametrize("first", range(5))
@both_ways
def test_five_tabs_end_in_every_order(
    fake: FakeFinch, site: Site, clock: Clock, first: int, echo_state: bool
) -> None:
    orders = [order for order in itertools.permutations(range(KEPT)) if order[0] == first]

    for order in orders:
        browser = Browser(site)
        callbacks = [
            _callback(fake, browser, clock, number=number, echo=echo_state)
            for number in range(KEPT)
        ]
        answers = [browser.get(callbacks[number]) for number in order]

        assert ["finch=connected" in each.location for each in answers] == [True] * KEPT
        assert len(browser.cookies) == KEPT

    assert len(orders) == 24
    assert fake.ledger.calls("token") == len(fake.ledger.tokens) == 24 * KEPT


@both_ways
def test_of_fifty_tabs_the_newest_five_work(
    fake: FakeFinch, site: Site, browser: Browser, begin: Callable[..., str]
) -> None:
    customers = [f"customer-{number}" for number in range(50)]
    callbacks = {}
    for customer_id in customers:
        callbacks[customer_id] = begin(customer_id)
        assert len(browser.cookies) <= KEPT
        assert cookie_bytes(browser) <= HEADER_LIMIT_BYTES
    newest, order = customers[-KEPT:], list(customers)
    random.Random(50).shuffle(order)

    answers = {customer_id: browser.get(callbacks[customer_id]) for customer_id in order}

    connected = {each for each in customers if "finch=connected" in answers[each].location}
    assert connected == set(newest)
    assert {each for each in customers if tokens_of(site, each)} == set(newest)
    assert all(answers[each].status in (400, 403) for each in set(customers) - set(newest))


def test_the_newest_flow_always_fits_however_long_its_texts_are(
    fake: FakeFinch, site: Site, browser: Browser, clock: Clock
) -> None:
    customer_id = "c" * 255
    site.opening["return_to"] = "/" + "r" * 254
    locations = []
    for _ in range(7):
        clock.move(timedelta(seconds=1))
        locations.append(browser.location(customer_id))
        assert len(browser.cookies) <= KEPT
        assert cookie_bytes(browser) <= HEADER_LIMIT_BYTES

    answers = [browser.get(fake.allow(location)) for location in locations[-4:]]

    assert ["finch=connected" in each.location for each in answers] == [True] * 4


def test_a_new_flow_removes_the_oldest_by_name(
    site: Site, browser: Browser, begin: Callable[..., str]
) -> None:
    begin("acme")
    [oldest] = browser.cookies
    for _ in range(KEPT - 1):
        begin("acme")

    answer = browser.begin()

    headers = answer.headers.get_all("Set-Cookie") or []
    assert [header.partition("=")[0] for header in headers if "Max-Age=0" in header] == [oldest]
    assert len(headers) == 2


def test_other_cookies_of_the_site_are_left_alone(
    fake: FakeFinch, site: Site, browser: Browser, begin: Callable[..., str]
) -> None:
    browser.cookies.update({"session": "theirs", "finch": "odd", "quoted": '"a;b'})

    callbacks = [begin("acme") for _ in range(7)]
    answer = browser.get(callbacks[-1])

    assert "finch=connected" in answer.location
    assert {"session", "finch", "quoted"} <= set(browser.cookies)
    assert len(browser.cookies) == KEPT + 3


def _callback(fake: FakeFinch, browser: Browser, clock: Clock, *, number: int, echo: bool) -> str:
    """The return of a flow whose session the application has opened itself."""
    site = browser.site
    clock.move(timedelta(seconds=1))
    connect_url = f"{fake.connect_origin}/authorize?session=own"
    site.opening["session"] = ConnectSession("own", connect_url)
    state = browser.location(f"customer-{number}").partition("&state=")[2]
    code = fake.issue_code(customer_id=f"customer-{number}", redirect_uri=site.origin + CALLBACK)
    return f"{CALLBACK}?code={code}" + (f"&state={state}" if echo else "")
