"""Many flows in one browser, finished in any order: the newest five always work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import Browser, Site
from tests.story.oracle import code_of, tokens_of
from tests.story.ways import both_ways


@pytest.fixture
def begin(fake: FakeFinch, site: Site, browser: Browser, clock: Clock) -> Callable[..., str]:
    """Begins a flow of a customer and gets the address of its return, one second later each."""

    def begun(customer_id: str, return_to: str = "/settings") -> str:
        clock.move(timedelta(seconds=1))
        site.opening["return_to"] = return_to
        return fake.allow(browser.location(customer_id))

    return begun


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
