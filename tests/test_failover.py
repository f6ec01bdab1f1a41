"""A primary that stops at any moment of a callback: no token is lost, and a reload succeeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faults.troubles import gone
from tests.site import Answer, Browser, Site
from tests.storage import servers
from tests.storage.sql_contract import around_commits, lose_the_confirmation
from tests.story.oracle import code_of, tokens_of
from tests.story.ways import while_finch_is_asked

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


def test_a_primary_that_is_down_refuses_begin_and_spends_no_code(
    fake: FakeFinch, browser: Browser, server: servers.Server
) -> None:
    callback = fake.allow(browser.location("before"))
    sessions = fake.ledger.calls("sessions")

    with gone(server):
        begun, refused = browser.begin("early"), browser.get(callback)
        presented = fake.ledger.presented(code_of(callback))
    reload = browser.get(callback)

    assert (begun.status, refused.status, presented) == (503, 503, 0)
    assert fake.ledger.calls("sessions") == sessions
    assert refused.headers["Retry-After"] == "5"
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_a_token_is_spooled_where_the_primary_stops_while_finch_is_asked(
    fake: FakeFinch, site: Site, browser: Browser, server: servers.Server
) -> None:
    callback = fake.allow(browser.location("during"))

    with ExitStack() as stopped:
        with while_finch_is_asked(fake, browser, callback) as first:
            stopped.enter_context(gone(server))
        answer = first.result()
    reload = browser.get(callback)

    assert "finch=finishing" in answer.location
    assert_kept_once(fake, site, callback, reload, customer="during")


def assert_kept_once(
    fake: FakeFinch, site: Site, callback: str, reload: Answer, *, customer: str
) -> None:
    """The reload succeeds, without another exchange, and the token can be read."""
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1
    assert tokens_of(site, customer) == list(fake.ledger.minted(code_of(callback)))


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_token_is_kept_once_where_the_primary_stops_in_the_commit(
    fake: FakeFinch, site: Site, browser: Browser, server: servers.Server, written: bool
) -> None:
    customer = f"commit-{written}"
    callback = fake.allow(browser.location(customer))
    commits = itertools.count(1)
    stopped = ExitStack()

    def stop() -> None:
        # The first is the claim's.
        if next(commits) == 2:
            stopped.enter_context(gone(server))
            if written:
                lose_the_confirmation()

    with stopped, around_commits(site.finch.storage, **{"after" if written else "before": stop}):
        first = browser.get(callback)
    reload = browser.get(callback)

    assert "finch=finishing" in first.location
    assert_kept_once(fake, site, callback, reload, customer=customer)
