"""The ways in which a code comes back, for stories that run with each of them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, SAME_ORIGIN_FETCH, Answer, Browser, Site
from tests.waiting import wait_until

#: Finch's redirect may or may not echo the state; the page's own script always has it.
every_way = pytest.mark.parametrize(
    ("flow", "echo_state"),
    [("redirect", True), ("redirect", False), ("embedded", True)],
    ids=["state", "no-state", "embedded"],
)
both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comeback:
    """A code that comes back as often as a browser brings it."""

    flow: str
    fields: Mapping[str, str]

    @property
    def code(self) -> str:
        return self.fields["code"]

    def brought_by(self, browser: Browser) -> Answer:
        """What *browser* gets: a page, or the JSON that its page's script gets."""
        if self.flow == "embedded":
            return browser.fetch(self.fields)
        return browser.get(f"{CALLBACK}?{urlencode(self.fields)}")


def allowed(fake: FakeFinch, browser: Browser, customer_id: str = "acme", *, flow: str) -> Comeback:
    """A flow of this browser that the employer has allowed at Finch."""
    browser.site.opening["flow"] = flow
    if flow == "embedded":
        opened = browser.embedded(customer_id)
        fields = fake.allow_embedded(opened["session_id"], state=opened["state"])
        return Comeback(flow=flow, fields=fields)
    callback = fake.allow(browser.location(customer_id))
    return Comeback(flow=flow, fields=dict(parse_qsl(urlsplit(callback).query)))


def connected(answer: Answer) -> bool:
    """Whether the person, or the page's script, learns that the payroll is connected."""
    if answer.status == 200:
        return bool(answer.json["outcome"] == "connected")
    return answer.status == 303 and "finch=connected" in answer.location


def by_script(browser: Browser, callback: str) -> Answer:
    """What the page's own script gets at that address."""
    return browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)


def another(browser: Browser) -> Browser:
    """A second tab: the same site, and a copy of the cookies."""
    return Browser(browser.site, dict(browser.cookies))


@contextmanager
def while_finch_is_asked(
    fake: FakeFinch, browser: Browser, callback: str, behaviour: Behaviour | None = None
) -> Iterator[Future[Answer]]:
    """The visit of *callback*, whose code is claimed and with Finch until the block ends."""
    gate = threading.Event()
    fake.script("token", (behaviour or Behaviour()).held(gate))
    calls = fake.ledger.calls("token")
    with ThreadPoolExecutor(1) as pool:
        visit = pool.submit(browser.get, callback)
        try:
            fake.ledger.wait_for_calls("token", count=calls + 1, timeout_seconds=60)
            yield visit
        finally:
            gate.set()


def wait_for_event(site: Site, name: str, *, count: int = 1) -> None:
    """Return as soon as the site has reported so many events of that name."""
    wait_until(lambda: len(site.named(name)) >= count)


def at_once(visits: list[Callable[[], Answer]]) -> list[Answer]:
    """What each visit gets in the end, where all begin at the same moment."""
    barrier = threading.Barrier(len(visits))

    def ended(visit: Callable[[], Answer]) -> Answer:
        barrier.wait()
        answer = visit()
        while answer.status == 202:
            threading.Event().wait(0.05)
            answer = visit()
        return answer

    with ThreadPoolExecutor(len(visits)) as pool:
        return list(pool.map(ended, visits))
