"""Exchange: a code that may be spent is never presented again; others may be."""

from __future__ import annotations

import logging
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from benchmarks.crash_campaign import Campaign
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.internals import exchange_times
from tests.site import NAVIGATION, Browser, MakeSite, Site
from tests.story.oracle import Overheard, attempt_of, code_of, nothing_stored, tokens_of
from tests.story.ways import by_script, wait_for_event

DEADLINE = timedelta(seconds=5)


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@contextmanager
def _refused() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and never listens, nor can another process
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_exchange_unreachable_releases_the_claim_and_a_reload_connects(
    fake: FakeFinch,
    site: Site,
    make_site: MakeSite,
    browser: Browser,
    callback: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _refused() as api_url:
        cut_off = make_site(api_url=api_url, exchange_deadline=DEADLINE)
        times = exchange_times(monkeypatch, cut_off)
        answer = by_script(Browser(cut_off, dict(browser.cookies)), callback)
    attempt = attempt_of(site, fake, code_of(callback))
    reload = browser.get(callback)

    assert answer.status == 502
    assert (answer.json["reason"], answer.json["retry"]) == ("unreachable", "reload")
    assert [within <= DEADLINE for within in times] == [True]
    [event] = cut_off.events
    assert (event.name, event.level) == ("finch.exchange.finch_unavailable", logging.WARNING)
    assert attempt is None
    assert "finch=connected" in reload.location


class End(NamedTuple):
    """What Finch does, and what must come of it."""

    behaviour: Behaviour
    status: int
    reason: str
    #: The reason in the event, which states more precisely what was seen.
    seen: str
    level: int = logging.ERROR
    #: What Retry-After must be.
    wait: str | None = None


def _unspent(
    behaviour: Behaviour, status: int, reason: str, level: int, wait: str | None = "5"
) -> End:
    return End(behaviour, status, reason, reason, level, wait)


def _busy(status: int, wait: str | None = None, **more: Any) -> Behaviour:
    headers = {} if wait is None else {"Retry-After": wait}
    return Behaviour.error(status, headers=headers, **more)


_REJECTED_CLIENT = Behaviour.error(401, name="invalid_client_error")
_UNPAID = _busy(402, name="payment_required")
#: Finch provably did nothing: the code is unspent, and the same address works later.
UNSPENT = {
    "client rejected": _unspent(_REJECTED_CLIENT, 500, "client_rejected", logging.CRITICAL, None),
    "402": _unspent(_UNPAID, 503, "payment_required", logging.CRITICAL),
    "429": _unspent(_busy(429), 503, "throttled", logging.WARNING),
    "429 for too long": _unspent(_busy(429, "99"), 503, "throttled", logging.WARNING, "99"),
    "429 with garbage": _unspent(_busy(429, "soon"), 503, "throttled", logging.WARNING),
}


@pytest.mark.parametrize("name", UNSPENT)
def test_exchange_unspent_code_is_released_and_a_reload_connects(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, name: str
) -> None:
    end, finch = UNSPENT[name], Overheard()
    fake.script("token", finch.of(end.behaviour))

    refused = by_script(browser, callback)
    attempt, empty = attempt_of(site, fake, code_of(callback)), nothing_stored(site)
    answer = browser.get(callback)

    assert (refused.status, refused.headers["Retry-After"]) == (end.status, end.wait)
    assert (refused.json["outcome"], refused.json["reason"]) == ("failed", end.reason)
    assert refused.json["retry"] == "reload"
    [event] = site.named("finch.exchange.finch_unavailable")
    assert (event.level, event.reason) == (end.level, end.seen)
    assert event.reference == refused.json["reference"]
    assert [event.request_id] == finch.request_ids
    assert (attempt, empty) == (None, True)
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 2


def _rejected(name: str) -> End:
    behaviour = Behaviour.error(400, name=name)
    return End(behaviour, 400, "code_rejected", "invalid_grant", logging.WARNING)


def _unusable(behaviour: Behaviour, seen: str) -> End:
    return End(behaviour, 502, "bad_response", seen)


def _ambiguous(behaviour: Behaviour, seen: str) -> End:
    return End(behaviour, 502, "ambiguous", seen)


def _page(status: int, **more: bool) -> Behaviour:
    return Behaviour.response("<h1>Bad", status=status, content_type="text/html", **more)


_HUGE = 1 << 30
#: The code is spent, or may be: the person starts again.
SPENT = {
    "code rejected": _rejected("invalid_grant_error"),
    "code rejected by the older name": _rejected("invalid_grant"),
    "malformed": _unusable(Behaviour.error(401, name="invalid_request_error"), "refused"),
    "not JSON": _unusable(Behaviour.garbage("html"), "not_json"),
    "an array": _unusable(Behaviour.garbage("array"), "wrong_shape"),
    "no token": _unusable(Behaviour.without("access_token"), "wrong_shape"),
    "huge": _unusable(Behaviour.huge(_HUGE), "too_large"),
    "huge without a length": _unusable(Behaviour.huge(_HUGE, declared=False), "too_large"),
    "bomb": _unusable(Behaviour.gzipped(padding_bytes=5_000_000), "encoded"),
    "reset": _ambiguous(Behaviour.reset(), "reset"),
    "reset once processed": _ambiguous(Behaviour.reset(processed=True), "reset"),
    "reset in the headers": _ambiguous(Behaviour.reset(after_bytes=40, processed=True), "reset"),
    "reset in the body": _ambiguous(Behaviour.reset(after_bytes=400, processed=True), "reset"),
    "end of file": _ambiguous(Behaviour.close(processed=True), "reset"),
    "500": _ambiguous(_page(500), "server_error"),
    "504 processed": _ambiguous(_page(504, processed=True), "server_error"),
    "503 for a moment": _ambiguous(_busy(503, "0"), "server_error"),
}
#: No header of these arrives, and so no request id.
_UNHEARD = {name for name in SPENT if name.startswith(("reset", "end of file"))} - {
    "reset in the body"
}


@pytest.mark.parametrize("name", SPENT)
def test_exchange_spent_code_is_never_presented_again(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, name: str
) -> None:
    end, finch = SPENT[name], Overheard()
    fake.script("token", finch.of(end.behaviour), times=None)

    answers = [by_script(browser, callback) for _ in range(2)]

    assert [each.status for each in answers] == [end.status] * 2
    assert answers[0].json == answers[1].json
    assert (answers[0].json["reason"], answers[0].json["retry"]) == (end.reason, "restart")
    [event] = site.events
    assert (event.name, event.level) == (f"finch.exchange.{end.reason}", end.level)
    assert event.reason == end.seen
    assert event.reference == answers[0].json["reference"]
    assert [event.request_id] == ([None] if name in _UNHEARD else finch.request_ids)
    attempt = _attempt(site, fake, callback)
    ambiguous = end.reason == "ambiguous"
    assert attempt.state is (AttemptState.AMBIGUOUS if ambiguous else AttemptState.FAILED)
    assert (attempt.reason, attempt.request_id) == (end.reason, event.request_id)
    assert fake.ledger.presented(code_of(callback)) == 1
    assert nothing_stored(site)


def _attempt(site: Site, fake: FakeFinch, callback: str) -> Attempt:
    attempt = attempt_of(site, fake, code_of(callback))
    assert attempt is not None
    return attempt


def test_exchange_ambiguous_and_started_again_gives_the_same_connection(
    fake: FakeFinch, site: Site, browser: Browser, callback: str
) -> None:
    fake.script("token", Behaviour.reset(processed=True))
    browser.get(callback)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("reauthenticate") == 1
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.connection_id == fake.ledger.codes[0].connection_id
    assert connection.access_token.reveal() == fake.ledger.tokens[1]


def test_exchange_killed_while_waiting_is_reported_with_what_an_operator_needs(
    worker: Campaign,
) -> None:
    reports, ends = worker.reports, worker.figures.ends["reported"]

    # The worker's first read from Finch's socket: the request is sent, the response is not read.
    answer = worker.answered("recvfrom:signal=KILL:when=1")

    assert answer == ""
    assert worker.reports == reports + 1
    assert worker.figures.ends["reported"] == ends + 1


def test_exchange_killed_by_the_servers_own_timeout_ends_as_any_kill(worker: Campaign) -> None:
    # A server sends this to a worker that takes too long, before it sends SIGKILL.
    answer = worker.answered(f"recvfrom:signal={signal.SIGABRT.name}:when=1")

    assert answer == ""
    assert worker.figures.ends["lost"] == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_exchange_client_gone_meanwhile_keeps_the_token_and_a_reload_shows_success(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, how: str
) -> None:
    parts = urlsplit(callback)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = {**NAVIGATION, "Cookie": cookies, "Host": urlsplit(site.origin).netloc}
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items())]
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with socket.create_connection(("127.0.0.1", urlsplit(site.origin).port or 0)) as line:
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        fake.ledger.wait_for_calls("token")
        if how == "reset":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gate.set()
    wait_for_event(site, "finch.connection.stored")
    reload = browser.get(callback)

    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1
