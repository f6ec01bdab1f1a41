"""Persist: after the exchange no token may be lost without a report."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from benchmarks.crash_campaign import Campaign
from finch_middleware.attempts import AttemptState
from finch_middleware.records import StoredConnection
from finch_middleware.storage.open import open_storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from finch_middleware.testing.sample_records import NOON
from tests.faults import troubles
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import filled
from tests.faulty_storage import FaultyStorage
from tests.processes import open_files
from tests.site import Browser, MakeSite, Site
from tests.storages import SERVERS, ServerOf, StorageOn
from tests.story.oracle import attempt_of, code_hash, code_of, nothing_stored, tokens_of
from tests.story.ways import at_once, both_ways, by_script, while_finch_is_asked
from tests.waiting import wait_until


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


TRANSIENT: dict[str, Callable[[FaultyStorage], None]] = {
    "one": lambda faulty: faulty.down("settle", times=1),
    "two": lambda faulty: faulty.down("settle", times=2),
    "the driver's own": lambda faulty: faulty.raises("settle", RuntimeError("of the driver")),
    "cut off": lambda faulty: faulty.cut("settle"),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fail", TRANSIENT.values(), ids=TRANSIENT)
def test_persist_transient_error_is_tried_again_unnoticed(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    faulty: FaultyStorage,
    fail: Callable[[FaultyStorage], None],
) -> None:
    fail(faulty)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert [event.name for event in site.events] == [
        "finch.storage.retried",
        "finch.connection.stored",
    ]
    assert len(faulty.real.scan(after=None, limit=10).rows) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.usefixtures("hasty")
@both_ways
def test_persist_storage_down_for_good_spools_and_shows_finishing(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    faulty: FaultyStorage,
    tmp_path: Path,
) -> None:
    faulty.down("settle")

    answer, script = browser.get(callback), by_script(browser, callback)

    assert answer.status == 303
    assert answer.location.startswith("/settings?finch=finishing&finch_ref=")
    assert script.status == 202
    assert (script.json["outcome"], script.json["retry"]) == ("finishing", "none")
    [event] = site.named("finch.token.spooled")
    assert event.level == logging.ERROR
    assert answer.location.endswith(f"finch_ref={event.reference}")
    [file] = (tmp_path / "spool").iterdir()
    assert file.stem == code_hash(fake, code_of(callback)).hex()
    assert fake.ledger.tokens[0] not in file.read_text()
    assert nothing_stored(site)
    stranger = Browser(site)
    stranger.location("umbrella")
    assert stranger.get(callback.partition("&state=")[0]).status == 400
    assert fake.ledger.presented(code_of(callback)) == 1


VISITS: dict[str, Callable[[FakeFinch, Browser, str], object]] = {
    "reload": lambda fake, browser, callback: browser.get(callback),
    "begin": lambda fake, browser, callback: browser.location("umbrella"),
    "another callback": lambda fake, browser, callback: _present_an_unknown_code(browser, fake),
}


def _present_an_unknown_code(browser: Browser, fake: FakeFinch) -> None:
    other = Browser(browser.site)
    other.get(fake.deny(other.location("umbrella")).replace("error=access_denied", "code=x"))


@pytest.mark.usefixtures("hasty")
@both_ways
@pytest.mark.parametrize("visit", VISITS.values(), ids=VISITS)
def test_persist_storage_down_for_good_and_the_next_visit_recovers_the_token(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    faulty: FaultyStorage,
    tmp_path: Path,
    visit: Callable[[FakeFinch, Browser, str], object],
) -> None:
    faulty.down("settle")
    browser.get(callback)
    faulty.heal()

    visit(fake, browser, callback)

    assert len(site.named("finch.spool.drained")) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert not list((tmp_path / "spool").iterdir())
    assert "finch=connected" in browser.get(callback).location
    assert fake.ledger.presented(code_of(callback)) == 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("foreign", [False, True], ids=["expected", "quarantined"])
def test_persist_storage_down_for_good_reports_nothing_before_the_token_is_on_a_disk(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, tmp_path: Path, foreign: bool
) -> None:
    spool, waiting = tmp_path / "spool", []
    site = make_site(
        storage=faulty,
        spool=spool,
        on_event=lambda event: waiting.append((event.name, len(list(spool.glob("*.json"))))),
    )
    browser = Browser(site)
    callback = fake.allow(browser.location())
    waiting.clear()
    changes = {"customer_id": "somebody-else"} if foreign else {}
    fake.script("token", Behaviour.alter(products=["company"], **changes))
    faulty.down("settle")

    browser.get(callback)

    assert {"finch.storage.unavailable", "finch.token.spooled"} <= {name for name, _ in waiting}
    assert {files for _, files in waiting} == {1}


@pytest.mark.usefixtures("hasty")
# For PostgreSQL, `tests/test_failover.py` does it at every moment.
@pytest.mark.parametrize("kind", ["mysql", "redis"])
def test_persist_storage_down_for_good_on_a_server_spools_and_a_reload_recovers(
    fake: FakeFinch,
    make_site: MakeSite,
    storage_on: StorageOn,
    server_of: ServerOf,
    tmp_path: Path,
    kind: str,
) -> None:
    server = server_of(kind)
    site = make_site(storage=storage_on(server), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with ExitStack() as stopped:
        with while_finch_is_asked(fake, browser, callback) as first:
            stopped.enter_context(troubles.gone(server))
        answer = first.result()
        waiting = [path.stem for path in (tmp_path / "spool").glob("*.json")]
    reload = browser.get(callback)

    assert answer.location.startswith("/settings?finch=finishing")
    assert waiting == [code_hash(fake, code_of(callback)).hex()]
    assert "finch=connected" in reload.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert not list((tmp_path / "spool").iterdir())


def test_persist_storage_down_for_good_spools_durably(worker: Campaign) -> None:
    presented = worker.figures.presented

    # The claim's sync is the first; no later one of the database succeeds.
    answer = worker.answered("fdatasync:error=EIO:when=2+")

    assert "303 " in answer
    assert "finch=finishing" in answer
    assert worker.figures.presented == presented + 1
    assert worker.figures.ends["spooled"] >= 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("customer_id", ["acme", "umbrella"], ids=["expected", "quarantined"])
def test_persist_storage_and_spool_fail_and_the_loss_is_reported(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, customer_id: str
) -> None:
    site = make_site(storage=faulty, spool=None)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(customer_id=customer_id))
    faulty.down("settle")

    answer = by_script(browser, callback)

    assert answer.status == 500
    assert (answer.json["reason"], answer.json["retry"]) == ("token_lost", "restart")
    [event] = site.named("finch.token.lost")
    assert event.level == logging.CRITICAL
    assert event.connection_id == fake.ledger.codes[0].connection_id
    assert event.customer_ids == ("acme",)
    assert event.reference == answer.json["reference"]
    assert fake.ledger.calls("disconnect") == 0


def test_persist_storage_and_spool_fail_by_system_calls_and_the_loss_is_reported(
    worker: Campaign,
) -> None:
    reports = worker.reports

    answer = worker.answered("fdatasync:error=EIO:when=2+", "fsync:error=EIO:when=1+")

    assert answer == "500 "
    # By the sweep too: nobody but an operator can find out what Finch holds.
    assert worker.reports == reports + 1


def test_persist_storage_and_spool_fail_but_a_full_spool_refuses_beforehand(
    fake: FakeFinch, make_site: MakeSite, small_disk: Path
) -> None:
    site = make_site(spool=small_disk / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    # The thread that began the flow keeps room until it ends.
    wait_until(lambda: not open_files(small_disk))

    with filled(small_disk):
        refused, begun = browser.get(callback), browser.begin("umbrella")
    answer = browser.get(callback)

    assert (refused.status, begun.status) == (503, 503)
    assert len(site.named("finch.spool.unavailable")) == 1
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.usefixtures("hasty")
def test_persist_storage_down_for_good_and_a_disk_that_is_filled_meanwhile_spools(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, small_disk: Path
) -> None:
    site = make_site(storage=faulty, spool=small_disk / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    faulty.down("settle")

    with ExitStack() as full:
        with while_finch_is_asked(fake, browser, callback) as visit:
            wait_until(lambda: len(open_files(small_disk)) == 1)
            full.enter_context(filled(small_disk))
        first, refused = visit.result(), browser.begin("umbrella")
    faulty.heal()
    reload = browser.get(callback)

    assert first.location.startswith("/settings?finch=finishing")
    assert refused.status == 503
    assert "finch=connected" in reload.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.parametrize("forwarded", [True, False], ids=["landed", "lost"])
def test_persist_commit_unknown_leaves_exactly_one_row(
    fake: FakeFinch,
    make_site: MakeSite,
    storage_on: StorageOn,
    server_of: ServerOf,
    proxy: CuttingProxy,
    forwarded: bool,
) -> None:
    site = make_site(storage=storage_on(server_of("postgresql"), url=proxy.url))
    browser = Browser(site)

    with while_finch_is_asked(fake, browser, fake.allow(browser.location())) as visit:
        proxy.cut_at_commit(forwarded=forwarded)

    assert "finch=connected" in visit.result().location
    assert proxy.cut
    assert len(site.named("finch.storage.retried")) == 1
    assert len(site.finch.storage.scan(after=None, limit=10).rows) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


_ROUNDS = 20


@pytest.mark.parametrize("kind", ["memory", "sqlite", *SERVERS])
def test_persist_same_connection_twice_in_parallel_keeps_the_newest(
    fake: FakeFinch,
    make_site: MakeSite,
    storage_on: StorageOn,
    server_of: ServerOf,
    tmp_path: Path,
    kind: str,
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/finch.db"}.get(kind)
    ticks = itertools.count()  # no two times are equal, so one of the two tokens is the newer
    faulty = FaultyStorage(open_storage(url) if url else storage_on(server_of(kind)))
    site = make_site(storage=faulty, clock=lambda: NOON + timedelta(microseconds=next(ticks)))
    rows: list[StoredConnection] = []
    faulty.always("settle", lambda attempt, row=None: rows.append(row) if row else None)
    for number in range(_ROUNDS):
        browsers = [Browser(site), Browser(site)]
        callbacks = [fake.allow(each.location()) for each in browsers]

        answers = at_once([partial(b.get, c) for b, c in zip(browsers, callbacks, strict=True)])

        attempts = [attempt_of(site, fake, code_of(each)) for each in callbacks]
        assert all("finch=connected" in each.location for each in answers)
        assert all(each and each.state is AttemptState.STORED for each in attempts)
        newest = max(rows[2 * number :], key=lambda each: each.obtained_at)
        [stored] = site.finch.storage.for_customer("acme")
        # Its history has the other one's entry, too.
        assert stored == dataclasses.replace(newest, history=stored.history)
        assert newest.history in stored.history
        assert len(rows) == 2 * (number + 1)
        assert tokens_of(site, "acme")[0] in fake.ledger.tokens[-2:]

    # Each token after the first replaced an older one, unless it came too late.
    replaced = [each.attempt_id for each in site.named("finch.token.replaced")]
    assert _ROUNDS - 1 <= len(replaced) == len(set(replaced)) <= 2 * _ROUNDS - 1


@pytest.mark.usefixtures("hasty")
def test_persist_old_spool_entry_does_not_replace_a_newer_token(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage, clock: Clock
) -> None:
    old, new = browser.location(), browser.location()
    faulty.down("settle", times=4)  # three tries, and the next visit in passing
    browser.get(fake.allow(old))
    clock.move(timedelta(seconds=1))

    browser.get(fake.allow(new))
    browser.location("umbrella")

    assert site.named("finch.spool.superseded")
    assert not site.named("finch.spool.drained")
    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]
