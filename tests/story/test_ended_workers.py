"""A worker that is ended, and a spool that holds what the storage never takes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware import Connection
from finch_middleware.errors import StorageUnavailable
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.left_behind import left_behind, standing
from tests.site import Browser, Site
from tests.story.oracle import code_of, nothing_stored, tokens_of


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt], ids=lambda end: end.__name__)
def test_a_worker_that_is_ended_at_the_settling_puts_its_token_into_the_spool_first(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    faulty: FaultyStorage,
    end: type[BaseException],
) -> None:
    callback = fake.allow(browser.location())
    faulty.raises("settle", end())
    visit = browser.environ(callback)

    with pytest.raises(end):
        site.finch.finish(visit)

    [event] = site.named("finch.token.spooled")
    assert nothing_stored(site)
    [attempt] = site.finch.recovery.drain()
    assert attempt.reference == event.reference
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_an_entry_that_the_storage_never_takes_stops_nobody(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    faulty: FaultyStorage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = fake.allow(browser.location())
    for _ in range(4):
        faulty.raises("settle", RuntimeError("a driver's own"))

    first = browser.get(callback)
    other = Browser(site)
    second = other.get(fake.allow(other.location("umbrella")))

    assert "finch=finishing" in first.location
    assert "finch=connected" in second.location
    [told] = [r for r in caplog.records if "finch.spool.unstorable" in r.getMessage()]
    assert told.levelno == logging.ERROR
    assert len(list((tmp_path / "spool").glob("*.json"))) == 1
    assert len(site.finch.recovery.drain()) == 1
    assert tokens_of(site, "acme") == [fake.ledger.tokens[0]]


def test_an_attempt_that_a_later_version_wrote_is_left_alone_and_nothing_is_spent(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    unreadable = StorageUnavailable("unreadable")
    faulty.raises("claim", unreadable)
    faulty.raises("attempt", unreadable)

    refused, answer = browser.get(callback), browser.get(callback)

    assert refused.status == 503
    assert site.events[0].reason == "unreadable"
    assert "finch=connected" in answer.location
    assert fake.ledger.presented(code_of(callback)) == 1


def test_the_hook_of_a_token_from_the_spool_is_given_the_newer_one_that_stands(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    faulty: FaultyStorage,
    clock: Clock,
    tmp_path: Path,
) -> None:
    told: list[Connection] = []
    site = make_site(storage=faulty, spool=None, on_connected=told.append)
    spooling = make_site(storage=faulty, spool=tmp_path / "spool", on_connected=told.append)
    browser = Browser(spooling)
    faulty.down("settle", times=3)
    browser.get(fake.allow(browser.location()))
    clock.move(timedelta(minutes=5))
    other = Browser(site)
    other.get(fake.allow(other.location()))

    spooling.finch.recovery.drain()

    assert [each.access_token.reveal() for each in told] == [fake.ledger.tokens[1]] * 2
    assert spooling.named("finch.spool.superseded")


def test_a_report_is_not_lost_with_the_sweep_that_was_to_make_it(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    code = left_behind(fake, site, faulty)
    clock.move(timedelta(seconds=61))
    faulty.after("settle", _die)
    with pytest.raises(SystemExit):
        site.finch.recovery.sweep()
    unreported = list(site.events)

    early = site.finch.recovery.sweep()
    clock.move(timedelta(seconds=61))
    late = [site.finch.recovery.sweep() for _ in range(2)]

    assert (unreported, early.interrupted) == ([], ())
    assert [len(each.interrupted) for each in late] == [1, 0]
    assert [event.name for event in site.events] == ["finch.attempt.interrupted"]
    assert standing(site, fake, code).notified


def test_a_report_that_could_not_be_noted_is_made_again(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    left_behind(fake, site, faulty)
    clock.move(timedelta(seconds=61))
    faulty.before("settle", lambda: faulty.down("settle", times=1))

    site.finch.recovery.sweep()
    clock.move(timedelta(seconds=61))
    again, after = site.finch.recovery.sweep(), site.finch.recovery.sweep()

    assert (len(again.interrupted), len(after.interrupted)) == (1, 0)
    assert len(site.named("finch.attempt.interrupted")) == 2


def _die() -> None:
    raise SystemExit
