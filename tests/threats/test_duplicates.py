"""T5 to T8: the same return twice, by people, tabs and bots."""

from __future__ import annotations

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from finch_middleware import CallbackRequest, ConnectSession, FinchMiddleware
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import NAVIGATION, Answer, Browser, Site
from tests.threats.desk import ORIGIN, Held, begun, component, returned
from tests.threats.sizes import ORDERS

_DUPLICATES = 64


def _code(address: str) -> str:
    [code] = parse_qs(urlsplit(address).query)["code"]
    return code


def _until_it_is_over(browser: Browser, callback: str) -> Answer:
    """As a browser does with a page that refreshes itself."""
    answer = browser.get(callback)
    while answer.status == 202:
        assert answer.headers["Refresh"]
        time.sleep(0.1)
        answer = browser.get(callback)
    return answer


def test_t05_sixty_four_identical_requests_at_once_make_one_call_and_get_one_answer(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("acme"))
    duplicates = [Browser(site, cookies=dict(browser.cookies)) for _ in range(_DUPLICATES)]
    barrier = threading.Barrier(_DUPLICATES)
    fake.script("token", Behaviour.delay(0.3))

    def visit(duplicate: Browser) -> Answer:
        barrier.wait()
        return _until_it_is_over(duplicate, callback)

    with ThreadPoolExecutor(_DUPLICATES) as pool:
        answers = list(pool.map(visit, duplicates))

    assert fake.ledger.presented(_code(callback)) == 1
    assert len(fake.ledger.tokens) == 1
    assert {answer.status for answer in answers} == {303}
    assert len({answer.location for answer in answers}) == 1
    assert site.errors == []


def test_t06_a_reload_gets_the_same_answer_for_ten_minutes_and_makes_no_call(
    fake: FakeFinch, browser: Browser, clock: Clock
) -> None:
    callback = fake.allow(browser.location("acme"))

    first = browser.get(callback)
    clock.move(timedelta(minutes=9, seconds=59))
    second = browser.get(callback)
    clock.move(timedelta(seconds=2))
    third = browser.get(callback)
    clock.move(timedelta(hours=1))
    fourth = browser.get(callback)

    assert [a.status for a in (first, second, third, fourth)] == [303, 303, 400, 400]
    assert second.location == first.location
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
    assert fake.ledger.presented(_code(callback)) == 1


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


def test_t07_a_preview_bot_without_the_cookie_makes_no_call(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("acme"))

    answer = Browser(site).get(callback)

    assert answer.status == 400
    assert fake.ledger.calls("token") == 0


def _begun(browser: Browser, customers: list[str], *, clock: Clock) -> list[str]:
    locations = []
    for customer in customers:
        # Which of two tickets is the newer one is a matter of their times.
        clock.move(timedelta(milliseconds=1))
        locations.append(browser.location(customer))
    return locations


@pytest.mark.parametrize("echo_state", [True, False], ids=["state comes back", "no state"])
@pytest.mark.parametrize("flows", [2, 5, 50])
@pytest.mark.full
def test_t08_the_newest_five_flows_of_a_browser_end_in_every_order(
    fake: FakeFinch, site: Site, clock: Clock, flows: int
) -> None:
    orders = list(itertools.permutations(range(min(flows, 5))))
    random.shuffle(orders)

    for number, order in enumerate(orders[: ORDERS()]):
        browser = Browser(site)
        customers = [f"customer-{number}-{flow}" for flow in range(flows)]
        newest = _begun(browser, customers, clock=clock)[-5:]
        answers = [browser.get(fake.allow(newest[place])) for place in order]

        assert {answer.status for answer in answers} == {303}
        connected = [site.finch.connections.for_customer(each) for each in customers[-5:]]
        assert [len(each) for each in connected] == [1] * len(newest)
    assert fake.ledger.calls("token") == len(fake.ledger.tokens)


def test_t08_the_largest_five_tickets_take_four_kib_at_most(fake: FakeFinch) -> None:
    finch = component(fake, redirect_uri="https://app.test/finch/callback")
    jar: dict[str, str] = {}

    for number in range(12):
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        response = finch.begin(
            customer_id=f"{number:03}".ljust(255, "c"),
            customer_name="Acme",
            return_to="/".ljust(255, "r"),
            request=_request(sent),
            session=_session(fake),
        )
        for header in response.headers.getlist("Set-Cookie"):
            name, _, rest = header.partition("=")
            jar.pop(name, None)
            if "max-age=0" not in rest.lower():
                jar[name] = rest.partition(";")[0]
            assert len(name) + len(rest.partition(";")[0]) + 1 <= 1024

        assert sum(len(name) + len(value) + 3 for name, value in jar.items()) <= 4096 + 3
        assert 1 <= len(jar) <= 5


def _request(headers: dict[str, str]) -> CallbackRequest:
    return CallbackRequest(method="POST", headers=headers)


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


def test_t08_a_spent_ticket_outranks_the_copy_that_was_not(fake: FakeFinch) -> None:
    finch = component(fake)
    app = FinchMiddleware(_nothing, finch)
    held: Held = begun(finch, fake, customer_id="acme")
    code = fake.issue_code(customer_id="acme", redirect_uri=f"{ORIGIN}/finch/callback")
    first = returned(app, f"code={code}&state={held.state}", cookie=held.cookie)
    [spent] = [value.partition(";")[0] for value in first.all("Set-Cookie")]

    second = fake.issue_code(customer_id="acme", redirect_uri=f"{ORIGIN}/finch/callback")
    answer = returned(app, f"code={second}", cookie=f"{held.cookie}; {spent}")

    assert answer.status == 400
    assert fake.ledger.presented(second) == 0


def _nothing(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("not the application's")
