"""What a primary that stops does to a callback: nothing is lost, and a reload ends well."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import Answer, Browser, Site
from tests.storage import servers
from tests.story.oracle import code_of, tokens_of

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    for server in servers.served("postgresql", servers.postgresql):
        if not server.owned:
            pytest.skip("not our server to stop")
        SQLAlchemyStorage(server.url).create_tables()
        yield server


@pytest.fixture
def storage_options(server: servers.Server, tmp_path: Any) -> dict[str, Any]:
    return {"storage": server.url, "spool": tmp_path / "spool"}


@pytest.fixture
def down(server: servers.Server) -> Iterator[Callable[[], None]]:
    """Stops the primary as a crash does; it is there again when the test is over."""
    stopped = []

    def stop() -> None:
        server.kill()
        stopped.append(True)

    yield stop
    if stopped and server._process is not None and server._process.poll() is not None:
        server.start()


def test_nobody_is_sent_to_a_login_where_the_primary_is_away_before_begin(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    server: servers.Server,
    down: Callable[[], None],
) -> None:
    sessions_before = fake.ledger.calls("sessions")
    down()

    away = browser.begin("early")

    sessions = fake.ledger.calls("sessions") - sessions_before
    server.start()
    assert (away.status, sessions) == (503, 0)
    assert "finch=connected" in browser.get(fake.allow(browser.location("early"))).location


def test_a_code_is_unspent_where_the_primary_is_away_before_the_exchange(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    server: servers.Server,
    down: Callable[[], None],
) -> None:
    callback = fake.allow(browser.location("before"))
    down()

    away = browser.get(callback)

    asked = fake.ledger.presented(code_of(callback))
    server.start()
    assert (away.status, asked) == (503, 0)
    assert away.headers["Retry-After"] == "5"
    assert "finch=connected" in browser.get(callback).location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_a_token_waits_in_the_spool_where_the_primary_stops_in_mid_callback(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    server: servers.Server,
    down: Callable[[], None],
) -> None:
    callback = fake.allow(browser.location("during"))
    stopped = threading.Event()
    fake.script("token", Behaviour.hold(stopped))
    answers: list[Answer] = []
    visit = threading.Thread(target=lambda: answers.append(browser.get(callback)))
    before = fake.ledger.calls("token")

    visit.start()
    fake.ledger.wait_for_calls("token", count=before + 1, timeout_seconds=60)
    down()
    stopped.set()
    visit.join()

    server.start()
    again = browser.get(callback)
    assert "finch=finishing" in answers[0].location
    assert "finch=connected" in again.location
    assert fake.ledger.presented(code_of(callback)) == 1
    [token] = fake.ledger.minted(code_of(callback))
    assert tokens_of(site, "during") == [token]


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_token_is_kept_once_where_the_primary_stops_in_the_commit(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    server: servers.Server,
    down: Callable[[], None],
    written: bool,
) -> None:
    storage: Any = site.finch.storage
    engine = storage._database._engine
    customer = f"commit-{written}"
    callback = fake.allow(browser.location(customer))
    upserted: list[bool] = []

    def stop(*call: Any) -> None:
        if "INTO finch_connections" in call[2]:
            upserted.append(True)
        elif call[2] == "COMMIT" and upserted:
            upserted.clear()
            down()
            if written:
                raise OperationalError("", None, ConnectionError())

    moment = "after_cursor_execute" if written else "before_cursor_execute"
    event.listen(engine, moment, stop)

    first = browser.get(callback)

    event.remove(engine, moment, stop)
    server.start()
    again = browser.get(callback)
    assert "finch=finishing" in first.location
    assert "finch=connected" in again.location
    assert fake.ledger.presented(code_of(callback)) == 1
    [token] = fake.ledger.minted(code_of(callback))
    assert tokens_of(site, customer) == [token]
