"""T5, T29, T30: several processes, made by a fork, and killed at work."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest

from finch_middleware import FinchConnect
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.required import absent
from tests.site import Answer, Browser, Site
from tests.storages import ServerOf, emptied
from tests.threats.sizes import CALLBACKS, KILLS
from tests.threats.workers import Workers, secure_fake, workers
from tests.waiting import wait_until

pytestmark = pytest.mark.full

#: Four processes, forked after the application and its storage were used.
_FORKED = {
    "gunicorn": ["--preload", "-w", "4", "--threads", "8"],
    "uwsgi": ["--processes", "4", "--threads", "8"],
}
_CLIENTS = 16
#: What is reported of a flow in which nothing goes wrong.
_GOOD_NEWS = {"finch.session.opened", "finch.connection.stored"}
_ENOUGH_KILLS = 100


@pytest.fixture
def fake() -> Iterator[FakeFinch]:
    with secure_fake() as fake:
        yield fake


@pytest.fixture(params=_FORKED)
def server(request: pytest.FixtureRequest) -> str:
    """A server that is installed here."""
    if request.param == "uwsgi" and find_spec("uwsgidecorators") is None:
        absent("servers", "uwsgi is not installed; pip install uwsgi")
    return str(request.param)


def _browser(running: Workers) -> Browser:
    # A Browser asks of its site nothing but the origin.
    return Browser(cast(Site, running), cookies={})


def _callback_and_reload(
    fake: FakeFinch, running: Workers, customer_id: str
) -> tuple[Answer, Answer]:
    browser = _browser(running)
    callback = fake.allow(browser.location(customer_id))
    return browser.get(callback), browser.get(callback)


def _token_of(finch: FinchConnect, customer_id: str) -> str:
    [connection] = finch.connections.for_customer(customer_id)
    return connection.access_token.reveal()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql", "redis"])
def test_t29_workers_forked_after_first_use_share_no_connection_and_mix_no_response(
    fake: FakeFinch, tmp_path: Path, server_of: ServerOf, server: str, kind: str
) -> None:
    customers = [f"customer-{number}" for number in range(CALLBACKS())]
    url = None if kind == "sqlite" else emptied(server_of(kind).url)
    with (
        workers(fake, tmp_path, arguments=_FORKED[server], url=url, server=server) as forked,
        ThreadPoolExecutor(_CLIENTS) as pool,
    ):
        answers = [*pool.map(lambda each: _callback_and_reload(fake, forked, each), customers)]

        # Three requests each: begin, callback, reload.
        assert {first.status for first, _ in answers} == {303}
        assert {first.location == reload.location for first, reload in answers} == {True}
        assert fake.ledger.calls("token") == len(fake.ledger.tokens) == len(customers)
        owner = {issued.minted: issued.customer_id for issued in fake.ledger.codes}
        for customer in customers:
            assert owner[(_token_of(forked.finch, customer),)] == customer
        assert forked.complaints() == []
        assert {each["name"] for each in forked.events()} <= _GOOD_NEWS


def _killed_at_work(fake: FakeFinch, running: Workers, customer_id: str, *, after: float) -> Any:
    """A callback whose worker is killed so many seconds after it began; the way to come again."""
    browser = _browser(running)
    callback = fake.allow(browser.location(customer_id))
    worker = running.a_worker()

    def visit() -> None:
        # The connection breaks when the worker dies.
        with contextlib.suppress(OSError, http.client.HTTPException):
            browser.get(callback)

    visitor = threading.Thread(target=visit)
    visitor.start()
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    visitor.join()
    return browser, callback


def _patiently(browser: Browser, callback: str) -> Answer:
    """Come again, also while the next worker is being made."""
    answers: list[Answer] = []

    def answered() -> list[Answer]:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answers.append(browser.get(callback))
        return answers

    wait_until(answered)
    return answers[0]


_ONE = ["--preload", "-w", "1", "--threads", "4"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql", "redis"])
def test_t30_whatever_is_killed_when_every_token_is_stored_or_reported(
    fake: FakeFinch, tmp_path: Path, server_of: ServerOf, kind: str
) -> None:
    draw = random.Random()
    url = None if kind == "sqlite" else emptied(server_of(kind).url)
    with workers(fake, tmp_path, arguments=_ONE, url=url) as running:
        fake.script("token", Behaviour.delay(0.02), times=None)
        visits = [
            _killed_at_work(fake, running, f"customer-{number}", after=draw.uniform(0, 0.07))
            for number in range(KILLS())
        ]
        running.move_clock(120)
        answers = [_patiently(*visit) for visit in visits]
        reported = [e for e in running.events() if e["name"] == "finch.attempt.interrupted"]
        minted = {hashlib.sha256(token.encode()).digest() for token in fake.ledger.tokens}
        stored = _stored(running.finch)

    assert [issued.presented <= 1 for issued in fake.ledger.codes] == [True] * len(visits)
    assert {answer.status for answer in answers} <= {303, 502}
    assert stored <= minted
    lost = len(minted) - len(stored)
    interrupted = [answer for answer in answers if answer.status == 502]
    assert lost <= len(interrupted) == len(reported)
    assert len({each["attempt"] for each in reported}) == len(reported)
    # Of so many, some were hit between claim and storage.
    assert reported or KILLS() < _ENOUGH_KILLS


def _stored(finch: FinchConnect) -> set[bytes]:
    """Hashes of the tokens that the database gives back."""
    rows = finch.storage.scan(after=None, limit=10_000).rows
    tokens = [_token_of(finch, row.customer_id) for row in rows]
    return {hashlib.sha256(token.encode()).digest() for token in tokens}
