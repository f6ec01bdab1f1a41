"""The ASGI middleware while Finch is slow: the event loop stays free, and work is finished."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from finch_middleware import FinchConnect
from finch_middleware.adapters import asgi
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.testing import FakeFinch, make_finch
from finch_middleware.testing.fake_finch import Behaviour
from tests.processes import forked, succeeds

PATIENCE_SECONDS = 120

Visit = Callable[[], Coroutine[Any, Any, int | None]]


@pytest.fixture
def finch(fake_finch: FakeFinch) -> FinchConnect:
    """Its exchange is held by most tests, on a busy machine for long."""
    return make_finch(fake_finch, exchange_deadline=timedelta(seconds=20))


@pytest.fixture
def gate(fake_finch: FakeFinch) -> Event:
    """Finch responds to the exchange when this is set."""
    gate = Event()
    fake_finch.script("token", Behaviour.hold(gate))
    return gate


@pytest.fixture
def app(finch: FinchConnect) -> FinchASGIMiddleware:
    return FinchASGIMiddleware(_application, finch)


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def visit(app: FinchASGIMiddleware, path: str, *, query: str = "", cookie: str = "") -> Visit:
    """A function that makes this GET request and returns the status of the response."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"cookie", cookie.encode())],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def ask() -> int | None:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app(dict(scope), receive, send)
        return int(sent[0]["status"])

    return ask


def returning(app: FinchASGIMiddleware, fake: FakeFinch, customer_id: str = "acme") -> Visit:
    """The visit of a browser that returns from Finch Connect."""
    query, cookie = returned(app.finch, fake, customer_id)
    return visit(app, "/finch/callback", query=query, cookie=cookie)


def returned(finch: FinchConnect, fake: FakeFinch, customer_id: str) -> tuple[str, str]:
    """The query and the cookie of that browser."""
    begun = finch.begin(customer_id=customer_id, customer_name="Acme Inc.")
    query = fake.allow(begun.headers["Location"]).partition("?")[2]
    return query, begun.headers["Set-Cookie"].partition(";")[0]


def thread_count(app: FinchASGIMiddleware) -> int:
    return len(app._pool[os.getpid()]._threads)


async def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* is true; TimeoutError after PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def stored(finch: FinchConnect) -> bool:
    """Whether acme is connected within PATIENCE_SECONDS."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not finch.connections.for_customer("acme") and time.monotonic() < end:
        time.sleep(0.005)
    return len(finch.connections.for_customer("acme")) == 1


def test_the_event_loop_serves_others_while_finch_is_slow(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback, other = returning(app, fake_finch), visit(app, "/")

    async def story() -> tuple[int | None, bool, int | None]:
        slow = asyncio.create_task(callback())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        served, waiting = await other(), not slow.done()
        gate.set()
        return served, waiting, await slow

    served, waiting, status = asyncio.run(story())

    assert served == 200
    assert waiting
    assert status == 303


def test_the_default_executor_of_the_application_stays_free(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback = returning(app, fake_finch)

    async def story() -> tuple[str, int | None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        slow = asyncio.create_task(callback())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        # Behind the callback, it would come after the exchange had been given up.
        served = await asyncio.to_thread(lambda: "served")
        gate.set()
        return served, await slow

    assert asyncio.run(story()) == ("served", 303)


def test_duplicates_that_wait_leave_threads_for_other_customers(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback, other = returning(app, fake_finch), returning(app, fake_finch, "globex")

    async def story() -> tuple[int | None, list[int | None]]:
        slow = [asyncio.create_task(callback()) for _ in range(asgi.THREADS)]
        # All but the first request, and those that wait for it.
        may_wait = asgi.THREADS // 4
        await until(lambda: sum(each.done() for each in slow) >= len(slow) - 1 - may_wait)
        # Without a thread, it would come after the exchange had been given up.
        first = await other()
        gate.set()
        return first, await asyncio.gather(*slow)

    first, statuses = asyncio.run(story())

    assert first == 303
    assert set(statuses) == {303, 202}
    assert statuses.count(303) <= 1 + asgi.THREADS // 4
    assert fake_finch.ledger.calls("token") == 2


def test_the_token_is_stored_when_the_client_disconnects_during_the_exchange(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback = returning(app, fake_finch)

    async def story() -> None:
        slow = asyncio.create_task(callback())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        slow.cancel()
        await slow

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
    gate.set()

    assert stored(app.finch)


def test_the_token_is_stored_when_the_client_disconnects_before_a_thread_is_free(
    finch: FinchConnect, fake_finch: FakeFinch, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "THREADS", 1)
    app = FinchASGIMiddleware(_application, finch)
    first, queued = returning(app, fake_finch, "globex"), returning(app, fake_finch)

    async def story() -> None:
        slow = asyncio.create_task(first())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        impatient = asyncio.create_task(queued())
        await until(lambda: app._pool[os.getpid()]._work_queue.qsize() == 1)
        impatient.cancel()
        gate.set()
        await slow

    asyncio.run(story())

    assert stored(finch)


def test_no_thread_is_started_before_the_first_callback(app: FinchASGIMiddleware) -> None:
    asyncio.run(visit(app, "/")())

    assert thread_count(app) == 0


def test_a_forked_process_has_threads_of_its_own(app: FinchASGIMiddleware) -> None:
    callback = visit(app, "/finch/callback")
    asyncio.run(callback())  # now the parent has an idle thread, which the child does not get

    # By Python's own fork: without its hooks a child of many threads cannot start another.
    assert succeeds(forked(lambda: asyncio.run(callback()) == 400))

    assert thread_count(app) == 1


#: A process that ends as soon as a thread of its pool works on the callback.
ENDING = """
import asyncio, contextlib, datetime, json, sys
from finch_middleware import FinchConnect
from tests.adapters.test_asgi_threads import FinchASGIMiddleware, thread_count, visit

options, seconds, query, cookie = json.load(sys.stdin)
deadline = datetime.timedelta(seconds=seconds)
app = FinchASGIMiddleware(None, FinchConnect(**options, exchange_deadline=deadline))

async def leave():
    callback = asyncio.create_task(visit(app, "/finch/callback", query=query, cookie=cookie)())
    while not thread_count(app):
        await asyncio.sleep(0)
    callback.cancel()

asyncio.run(leave())
"""

Ending = Callable[[int], subprocess.Popen[str]]


@pytest.fixture
def on_disk(options: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    return {**options, "storage": f"sqlite:///{tmp_path}/finch.db"}


@pytest.fixture
def ending(on_disk: dict[str, Any], fake: FakeFinch) -> Iterator[Ending]:
    """Starts a process that ends during an exchange with that deadline in seconds."""
    started = []

    def start(deadline_seconds: int) -> subprocess.Popen[str]:
        query, cookie = returned(FinchConnect(**on_disk), fake, "acme")
        process = subprocess.Popen([sys.executable, "-c", ENDING], stdin=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdin is not None
        with process.stdin as stdin:
            json.dump([on_disk, deadline_seconds, query, cookie], stdin)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_process_that_ends_finishes_the_exchange_first(
    on_disk: dict[str, Any], fake: FakeFinch, ending: Ending
) -> None:
    gate = Event()
    fake.script("token", Behaviour.hold(gate))
    process = ending(12)
    asyncio.run(until(lambda: fake.ledger.calls("token") == 1))

    gate.set()

    assert process.wait(PATIENCE_SECONDS) == 0
    assert stored(FinchConnect(**on_disk))


@pytest.mark.full
def test_a_process_that_ends_waits_no_longer_than_the_deadline_of_the_exchange(
    fake: FakeFinch, ending: Ending
) -> None:
    gate = Event()
    fake.script("token", Behaviour.hold(gate))

    ended = ending(4).wait(PATIENCE_SECONDS)

    gate.set()
    assert ended == 0
    assert fake.ledger.calls("token") == 1
