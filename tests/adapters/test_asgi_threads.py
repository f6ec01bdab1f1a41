"""The ASGI twin while Finch is slow: the loop and its pool stay free, and the work is done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from finch_middleware import FinchConnect
from finch_middleware.adapters import asgi
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.duplicates import WAITING_THREADS
from finch_middleware.testing import FakeFinch
from finch_middleware.testing.fake_finch import Behaviour

PATIENCE_SECONDS = 10

Visit = Callable[[], Coroutine[Any, Any, int | None]]


@pytest.fixture
def gate(fake_finch: FakeFinch) -> Event:
    """Opens when the test has seen enough: until then Finch keeps an exchange waiting."""
    gate = Event()
    fake_finch.script("token", Behaviour.hold(gate))
    return gate


@pytest.fixture
def app(finch: FinchConnect) -> FinchASGIMiddleware:
    return FinchASGIMiddleware(_application, finch)


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def visit(app: FinchASGIMiddleware, path: str, *, query: str = "", cookie: str = "") -> Visit:
    """A GET, as often as it is called: the status of its answer."""
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
    """The visit of a browser that comes back from Finch Connect."""
    begun = app.finch.begin(customer_id=customer_id, customer_name="Acme Inc.")
    query = fake.allow(begun.headers["Location"]).partition("?")[2]
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    return visit(app, "/finch/callback", query=query, cookie=cookie)


def at_work() -> int:
    return sum(each.name.startswith("finch-asgi-") for each in threading.enumerate())


async def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* is true, or the test has no more patience."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def stored(finch: FinchConnect) -> bool:
    """Whether acme is connected while the test has patience."""
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

    served, waiting, answered = asyncio.run(story())

    assert served == 200
    assert waiting
    assert answered == 303


def test_the_applications_own_pool_is_not_taken(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback = returning(app, fake_finch)

    async def story() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        slow = asyncio.create_task(callback())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        try:
            return await asyncio.wait_for(asyncio.to_thread(lambda: "served"), PATIENCE_SECONDS / 2)
        finally:
            gate.set()
            await slow

    assert asyncio.run(story()) == "served"


def test_duplicates_that_wait_leave_threads_for_other_customers(
    app: FinchASGIMiddleware, fake_finch: FakeFinch, gate: Event
) -> None:
    callback, other = returning(app, fake_finch), returning(app, fake_finch, "globex")

    async def story() -> tuple[int | None, list[int | None]]:
        slow = [asyncio.create_task(callback()) for _ in range(1 + WAITING_THREADS)]
        await until(lambda: at_work() == len(slow) and fake_finch.ledger.calls("token") == 1)
        try:
            first = await asyncio.wait_for(other(), PATIENCE_SECONDS / 2)
        finally:
            gate.set()
        return first, await asyncio.gather(*slow)

    first, answered = asyncio.run(story())

    assert first == 303
    assert answered == [303] * (1 + WAITING_THREADS)
    assert fake_finch.ledger.calls("token") == 2


def test_a_client_that_goes_away_cancels_the_wait_and_not_the_exchange(
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


def test_a_client_that_goes_away_from_the_queue_is_connected_all_the_same(
    finch: FinchConnect, fake_finch: FakeFinch, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "THREADS", 1)
    app = FinchASGIMiddleware(_application, finch)
    first, queued = returning(app, fake_finch, "globex"), returning(app, fake_finch)

    async def story() -> None:
        slow = asyncio.create_task(first())
        await until(lambda: fake_finch.ledger.calls("token") == 1)
        impatient = asyncio.create_task(queued())
        await asyncio.sleep(0.05)
        impatient.cancel()
        gate.set()
        await slow

    asyncio.run(story())

    assert stored(finch)


def test_no_thread_is_started_before_the_first_callback(
    app: FinchASGIMiddleware, fake_finch: FakeFinch
) -> None:
    other = visit(app, "/")
    asyncio.run(until(lambda: at_work() == 0))

    asyncio.run(other())

    assert at_work() == 0
