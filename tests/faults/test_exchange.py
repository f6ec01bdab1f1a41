"""Exchange: a code that may be spent is never presented again; others may be."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from benchmarks.crash_campaign import Campaign
from finch_middleware.attempts import AttemptState
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.odd_server import OddServer, authority
from tests.site import NAVIGATION, SAME_ORIGIN_FETCH, Answer, Browser, Site
from tests.story.oracle import attempt_of, code_of, nothing_stored, tokens_of

DEADLINE = timedelta(seconds=0.5)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(exchange_deadline=DEADLINE)


def state_of(site: Site, fake: FakeFinch, callback: str) -> tuple[AttemptState, str | None] | None:
    attempt = attempt_of(site, fake, code_of(callback))
    return None if attempt is None else (attempt.state, attempt.reason)


def by_script(browser: Browser, callback: str) -> Answer:
    return browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)


@contextmanager
def _refused() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def _full_backlog() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for each in waiting:
            each.close()


@contextmanager
def _bad_certificate(name: str, days: tuple[int, int]) -> Iterator[str]:
    with OddServer(lambda line: None, tls=authority().server(name, days=days)) as server:
        yield server.url


UNREACHABLE: dict[str, Callable[[], object]] = {
    "refused": _refused,
    "full backlog": _full_backlog,
    "self-signed": lambda: _bad_certificate("127.0.0.1", (-1, 1)),
    "expired": lambda: _bad_certificate("127.0.0.1", (-3, -1)),
    "wrong host": lambda: _bad_certificate("finch.example", (-1, 1)),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_exchange_unreachable_releases_the_claim_and_a_reload_connects(
    fake: FakeFinch, site: Site, make_site: Callable[..., Site], browser: Browser, name: str
) -> None:
    callback = fake.allow(browser.location())
    options = {} if name == "self-signed" else {"ca_bundle": str(authority().bundle)}

    with UNREACHABLE[name]() as api_url:  # type: ignore[attr-defined]  # each is a context manager
        cut_off = make_site(api_url=api_url, exchange_deadline=DEADLINE, **options)
        began = time.monotonic()
        answer = by_script(Browser(cut_off, dict(browser.cookies)), callback)
        took = time.monotonic() - began
    standing = state_of(site, fake, callback)
    reload = browser.get(callback)

    assert (answer.status, answer.json["reason"], answer.json["retry"]) == (
        502,
        "unreachable",
        "reload",
    )
    assert took < DEADLINE.total_seconds() + 1
    assert [each.name for each in cut_off.events] == ["finch.exchange.finch_unavailable"]
    assert standing is None
    assert "finch=connected" in reload.location


AMBIGUOUS = {
    "reset": Behaviour.reset(processed=True),
    "reset in the headers": Behaviour.reset(after_bytes=40, processed=True),
    "reset in the body": Behaviour.reset(after_bytes=400, processed=True),
    "end of file": Behaviour.close(processed=True),
    "stall": Behaviour.stall(processed=True),
}
SLOW = {
    "headers drip": Behaviour.drip_headers(),
    "body drips": Behaviour.drip_body(),
    "stall in the headers": Behaviour.stall(after_bytes=40, processed=True),
    "stall in the body": Behaviour.stall(after_bytes=400, processed=True),
}


@pytest.mark.parametrize("name", [*AMBIGUOUS, *SLOW])
def test_exchange_ambiguous_after_the_first_byte_is_never_presented_again(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", {**AMBIGUOUS, **SLOW}[name])

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [each.status for each in answers] == [502, 502]
    assert {each.json["retry"] for each in answers} == {"restart"}
    assert state_of(site, fake, callback) == (AttemptState.AMBIGUOUS, "ambiguous")
    assert [(e.name, e.level) for e in site.events] == [("finch.exchange.ambiguous", logging.ERROR)]
    assert fake.ledger.presented(code_of(callback)) == 1
    assert nothing_stored(site)


@pytest.mark.parametrize("name", SLOW)
def test_exchange_timeout_ends_with_the_deadline(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", SLOW[name])

    began = time.monotonic()
    answer = browser.get(callback)
    took = time.monotonic() - began

    assert answer.status == 502
    assert site.events[0].reason == "timeout"
    assert DEADLINE.total_seconds() * 0.9 < took < DEADLINE.total_seconds() + 1


BAD = {
    "huge": Behaviour.huge(1 << 30),
    "huge and of no length": Behaviour.huge(1 << 30, declared=False),
    "bomb": Behaviour.gzipped(padding_bytes=5_000_000),
    "gzip": Behaviour.gzipped(),
}


@pytest.mark.parametrize("name", BAD)
def test_exchange_bad_response_fails_the_attempt(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", BAD[name])

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [(each.status, each.json["reason"]) for each in answers] == [(502, "bad_response")] * 2
    assert state_of(site, fake, callback) == (AttemptState.FAILED, "bad_response")
    assert [(e.name, e.level) for e in site.events] == [
        ("finch.exchange.bad_response", logging.ERROR)
    ]
    assert fake.ledger.presented(code_of(callback)) == 1


def test_exchange_redirect_is_not_followed(fake: FakeFinch, site: Site, browser: Browser) -> None:
    callback = fake.allow(browser.location())

    with OddServer(lambda line: None) as elsewhere:
        fake.script("token", Behaviour.redirect(elsewhere.url + "/auth/token?q=1"))
        answer = by_script(browser, callback)

    assert (answer.status, answer.json["retry"]) == (502, "restart")
    assert (elsewhere.accepted, elsewhere.received_bytes) == (0, 0)
    assert (site.events[0].reason, site.events[0].level) == ("redirected", logging.ERROR)
    assert state_of(site, fake, callback) == (AttemptState.FAILED, "bad_response")


def test_exchange_code_rejected_is_told_as_a_used_link(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.error(400, name="invalid_grant_error"))

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [(each.status, each.json["reason"]) for each in answers] == [(400, "code_rejected")] * 2
    assert state_of(site, fake, callback) == (AttemptState.FAILED, "code_rejected")
    assert fake.ledger.presented(code_of(callback)) == 1


def test_exchange_client_rejected_leaves_the_code_for_the_repair(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.error(401, name="invalid_client_error"))

    answer = by_script(browser, callback)
    standing = state_of(site, fake, callback)
    repaired = browser.get(callback)

    assert (answer.status, answer.json["reason"]) == (500, "client_rejected")
    assert site.events[0].level == logging.CRITICAL
    assert standing is None
    assert "finch=connected" in repaired.location


@pytest.mark.parametrize("status", [429, 503])
def test_exchange_throttled_for_a_moment_is_not_seen(
    fake: FakeFinch, make_site: Callable[..., Site], status: int
) -> None:
    site = make_site()
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", *[Behaviour.error(status, headers={"Retry-After": "0"})] * 2)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 3
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


TOLD_TO_WAIT = {
    "429": (Behaviour.error(429), "throttled", "5"),
    "429 for too long": (Behaviour.error(429, headers={"Retry-After": "99"}), "throttled", "99"),
    "429 with garbage": (Behaviour.error(429, headers={"Retry-After": "soon"}), "throttled", "5"),
    "402": (Behaviour.error(402, name="payment_required"), "payment_required", "5"),
}


@pytest.mark.parametrize("name", TOLD_TO_WAIT)
def test_exchange_told_to_wait_too_long_releases_the_claim(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    behaviour, reason, wait = TOLD_TO_WAIT[name]
    callback = fake.allow(browser.location())
    fake.script("token", behaviour)

    answer = by_script(browser, callback)
    standing = state_of(site, fake, callback)
    reload = browser.get(callback)

    assert (answer.status, answer.json["reason"], answer.json["retry"]) == (503, reason, "reload")
    assert answer.headers["Retry-After"] == wait
    assert standing is None
    assert "finch=connected" in reload.location


BUSY = {
    "garbage": "soon",
    "too long": "99999",
    "a date far away": "Wed, 01 Jan 2200 00:00:00 GMT",
    "three times": "0",
}


@pytest.mark.parametrize("processed", [True, False])
@pytest.mark.parametrize("name", BUSY)
def test_exchange_server_error_that_asks_to_wait_may_have_been_acted_on(
    fake: FakeFinch, site: Site, browser: Browser, name: str, processed: bool
) -> None:
    callback = fake.allow(browser.location())
    busy = Behaviour.response(
        "busy", status=503, headers={"Retry-After": BUSY[name]}, processed=processed
    )
    fake.script("token", busy, times=None)

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [(each.status, each.json["reason"]) for each in answers] == [(502, "ambiguous")] * 2
    assert state_of(site, fake, callback) == (AttemptState.AMBIGUOUS, "ambiguous")
    assert fake.ledger.presented(code_of(callback)) == (3 if name == "three times" else 1)


def test_exchange_ambiguous_when_what_a_busy_answer_hid_had_spent_the_code(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location())
    busy = Behaviour.response("busy", status=503, headers={"Retry-After": "0"}, processed=True)
    fake.script("token", busy)

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [(each.status, each.json["reason"]) for each in answers] == [(502, "ambiguous")] * 2
    assert state_of(site, fake, callback) == (AttemptState.AMBIGUOUS, "ambiguous")
    assert len(fake.ledger.tokens) == 1


@pytest.mark.parametrize("processed", [True, False])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_exchange_server_error_may_have_been_acted_on(
    fake: FakeFinch, site: Site, browser: Browser, status: int, processed: bool
) -> None:
    callback = fake.allow(browser.location())
    page = "<h1>Bad gateway</h1>"
    behaviour = Behaviour.response(
        page, status=status, content_type="text/html", processed=processed
    )
    fake.script("token", behaviour)

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [(each.status, each.json["reason"]) for each in answers] == [(502, "ambiguous")] * 2
    assert site.events[0].reason == "server_error"
    assert fake.ledger.presented(code_of(callback)) == 1


def test_exchange_killed_while_waiting_is_reported_with_what_an_operator_needs(
    worker: Campaign,
) -> None:
    reports, ends = worker.reports, worker.figures.ends["reported"]

    # The worker's first read from Finch's socket: the request is out, the answer is not in.
    answer = worker.answered("recvfrom:signal=KILL:when=1")

    assert answer == ""
    assert worker.reports == reports + 1
    assert worker.figures.ends["reported"] == ends + 1


def test_exchange_client_gone_meanwhile_is_stored_all_the_same(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.delay(0.3))

    leave(site, browser, callback)
    fake.ledger.wait_for_calls("token")
    until = time.monotonic() + 60
    while not site.named("finch.connection.stored") and time.monotonic() < until:
        time.sleep(0.01)
    back = browser.get(callback)

    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert "finch=connected" in back.location
    assert fake.ledger.presented(code_of(callback)) == 1


def leave(site: Site, browser: Browser, callback: str) -> None:
    """Send the request, and close the line before there is an answer."""
    parts = urlsplit(callback)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = {**NAVIGATION, "Cookie": cookies, "Host": urlsplit(site.origin).netloc}
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items())]
    address = ("127.0.0.1", urlsplit(site.origin).port or 0)
    with socket.create_connection(address) as line:
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        time.sleep(0.1)


def test_exchange_killed_by_the_servers_own_timeout_ends_as_any_kill(worker: Campaign) -> None:
    # What a server sends to a worker that takes too long, before it sends SIGKILL.
    answer = worker.answered(f"recvfrom:signal={signal.SIGABRT.name}:when=1")

    assert answer == ""
    assert worker.figures.ends["lost"] == 0
