"""Persist: after the exchange no token may be lost without a report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from benchmarks.crash_campaign import SCENARIOS, Campaign, at_every_call, at_random, running
from finch_middleware import FinchConnect
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto.keys import wrapped_key
from finch_middleware.errors import KeyUnavailable, StorageUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faults import troubles
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import filled, mounted, read_only
from tests.faults.power import Disk, standing_still_at_each_sync
from tests.faulty_storage import FaultyStorage
from tests.internals import key_service_is_asked_again_at_once, settle_with_pauses
from tests.site import CALLBACK, KEY, Browser, Site
from tests.storages import SERVERS, ServerOf
from tests.story.oracle import attempt_of, code_hash, code_of, nothing_stored, same, tokens_of
from tests.story.ways import at_once, both_ways, by_script, while_finch_is_asked


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


def _one(faulty: FaultyStorage) -> None:
    faulty.down("settle", times=1)


def _two(faulty: FaultyStorage) -> None:
    faulty.down("settle", times=2)


def _drivers_own(faulty: FaultyStorage) -> None:
    faulty.raises("settle", RuntimeError("an error of the driver"))


def _cut_off(faulty: FaultyStorage) -> None:
    faulty.cut("settle")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fail", [_one, _two, _drivers_own, _cut_off])
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
    assert len(faulty.real.scan(after=None, limit=10).connections) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.full
def test_persist_transient_error_of_a_server_that_restarts_is_not_noticed(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    server_of: ServerOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle_with_pauses(monkeypatch, 0.0, 0.2, 3.3)
    server = server_of("postgresql")
    site = make_site(storage=storage_on(server), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token", timeout_seconds=60)
        with troubles.gone(server):
            gate.set()
            time.sleep(0.1)

    assert "finch=connected" in answer.result().location
    assert len(site.named("finch.storage.retried")) == 1
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
    assert file.stat().st_mode & 0o777 == 0o600
    assert fake.ledger.tokens[0] not in file.read_text()
    assert nothing_stored(site)


def _reload(fake: FakeFinch, browser: Browser, callback: str) -> None:
    browser.get(callback)


def _begin(fake: FakeFinch, browser: Browser, callback: str) -> None:
    browser.location("umbrella")


def _finish(fake: FakeFinch, browser: Browser, callback: str) -> None:
    unknown = Browser(browser.site)
    unknown.get(fake.deny(unknown.location("umbrella")).replace("error=access_denied", "code=x"))


@pytest.mark.usefixtures("hasty")
@both_ways
@pytest.mark.parametrize("visit", [_reload, _begin, _finish])
def test_persist_storage_down_for_good_and_the_next_visit_recovers_the_token(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    faulty: FaultyStorage,
    tmp_path: Path,
    visit: Callable[[FakeFinch, Browser, str], None],
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
@both_ways
def test_persist_storage_down_for_good_is_not_shown_to_another_browser(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    faulty.down("settle")
    first, second = browser.get(callback), browser.get(callback)
    stranger = Browser(site)
    stranger.location("umbrella")

    answer = stranger.get(callback.partition("&state=")[0])

    assert (first.status, first.location) == (second.status, second.location)
    assert answer.status == 400
    assert fake.ledger.presented(code_of(callback)) == 1


@pytest.mark.usefixtures("hasty")
def test_persist_storage_down_for_good_spools_a_quarantined_token_too(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    fake.script("token", Behaviour.alter(customer_id="umbrella"))
    faulty.down("settle")

    first, second = (by_script(browser, callback) for _ in range(2))
    faulty.heal()
    third = by_script(browser, callback)

    assert first.status == second.status == third.status == 403
    assert first.json == second.json == third.json
    attempt = attempt_of(site, fake, code_of(callback))
    assert attempt is not None
    assert attempt.state is AttemptState.QUARANTINED
    assert nothing_stored(site)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("foreign", [False, True], ids=["expected", "quarantined"])
def test_persist_storage_down_for_good_reports_nothing_before_the_token_is_on_a_disk(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    faulty: FaultyStorage,
    tmp_path: Path,
    foreign: bool,
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


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt], ids=lambda end: end.__name__)
def test_persist_storage_down_for_good_spools_before_a_worker_ends(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    faulty: FaultyStorage,
    end: type[BaseException],
) -> None:
    faulty.raises("settle", end())

    with pytest.raises(end):
        site.finch.finish(browser.environ(callback))

    [event] = site.named("finch.token.spooled")
    assert nothing_stored(site)
    [attempt] = site.finch.recovery.drain()
    assert attempt.reference == event.reference
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", SERVERS)
def test_persist_storage_down_for_good_on_a_server_spools_and_a_reload_recovers(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
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
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage, customer_id: str
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


@pytest.mark.full
@pytest.mark.usefixtures("hasty")
def test_persist_storage_and_spool_fail_on_a_disk_that_fills_meanwhile(
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage
) -> None:
    with mounted(kibibytes=64) as disk, ExitStack() as trouble:
        site = make_site(storage=faulty, spool=disk / "spool")
        browser = Browser(site)

        with while_finch_is_asked(fake, browser, fake.allow(browser.location())) as visit:
            faulty.down("settle")
            trouble.enter_context(filled(disk))
        answer = visit.result()

    assert answer.status == 500
    [event] = site.named("finch.token.lost")
    assert event.connection_id == fake.ledger.codes[0].connection_id


def test_persist_storage_and_spool_fail_by_system_calls_and_the_loss_is_reported(
    worker: Campaign,
) -> None:
    reports = worker.reports

    answer = worker.answered("fdatasync:error=EIO:when=2+", "fsync:error=EIO:when=1+")

    assert answer == "500 "
    # By the sweep too: nobody but an operator can find out what Finch holds.
    assert worker.reports == reports + 1


def test_persist_storage_and_spool_fail_but_an_unwritable_spool_refuses_beforehand(
    fake: FakeFinch, site: Site, browser: Browser, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    unwritable = make_site(
        spool=tmp_path / "file" / "spool",
        storage=site.finch.storage,
        redirect_uri=site.origin + CALLBACK,
    )
    callback = fake.allow(browser.location())

    refused = Browser(unwritable, dict(browser.cookies)).get(callback)
    answer = browser.get(callback)

    assert refused.status == 503
    assert [(event.name, event.reason) for event in unwritable.events] == [
        ("finch.spool.unavailable", "unwritable")
    ]
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_persist_storage_and_spool_fail_but_a_full_spool_refuses_beforehand(
    fake: FakeFinch, make_site: Callable[..., Site], small_disk: Path
) -> None:
    site = make_site(spool=small_disk / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())

    with filled(small_disk):
        refused, begun = browser.get(callback), browser.begin("umbrella")
    answer = browser.get(callback)

    assert (refused.status, begun.status) == (503, 503)
    assert len(site.named("finch.spool.unavailable")) == 1
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.parametrize("forwarded", [True, False], ids=["landed", "lost"])
def test_persist_commit_unknown_leaves_exactly_one_row(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
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
    assert len(site.finch.storage.scan(after=None, limit=10).connections) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


class Ticking(Clock):
    """Every look at it is a microsecond later than the one before; it remembers none twice."""

    def __init__(self) -> None:
        super().__init__()
        self._ticking = threading.Lock()

    def __call__(self) -> datetime:
        with self._ticking:
            self.move(timedelta(microseconds=1))
            return super().__call__()


_ROUNDS = 100


@pytest.mark.parametrize("kind", ["memory", "sqlite", *SERVERS])
def test_persist_same_connection_twice_in_parallel_keeps_the_newest(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    server_of: ServerOf,
    tmp_path: Path,
    kind: str,
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/finch.db"}.get(kind)
    storage = url or storage_on(server_of(kind))
    site = make_site(storage=storage, clock=Ticking())
    obtained: dict[str, datetime] = {}
    winners: list[str] = []
    settle = site.finch.storage.settle

    def noting(attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        if connection is not None:
            obtained[connection.attempt_id] = connection.obtained_at
        return settle(attempt, connection)

    site.finch.storage.settle = noting  # type: ignore[method-assign]  # to know who was first
    for _ in range(_ROUNDS):
        browsers = [Browser(site), Browser(site)]
        callbacks = [fake.allow(each.location()) for each in browsers]
        obtained.clear()

        visits = [partial(b.get, c) for b, c in zip(browsers, callbacks, strict=True)]
        answers = at_once(visits)

        attempts = [attempt_of(site, fake, code_of(each)) for each in callbacks]
        assert all("finch=connected" in each.location for each in answers)
        assert all(each and each.state is AttemptState.STORED for each in attempts)
        [row] = site.finch.storage.for_customer("acme")
        newest = max(obtained, key=lambda each: obtained[each])
        winners.append(newest)
        assert len(obtained) == 2
        assert (row.attempt_id, row.obtained_at) == (newest, obtained[newest])
        winner = next(c for a, c in zip(attempts, callbacks, strict=True) if _is(a, newest))
        assert tokens_of(site, "acme") == list(fake.ledger.minted(code_of(winner)))

    # Every winner but the first took the place of a token; who came too late took none.
    replaced = [each.attempt_id for each in site.named("finch.token.replaced")]
    assert set(winners[1:]) <= set(replaced)
    assert _ROUNDS - 1 <= len(replaced) == len(set(replaced)) <= 2 * _ROUNDS - 1


def _is(attempt: Attempt | None, attempt_id: str) -> bool:
    return attempt is not None and attempt.attempt_id == attempt_id


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


def test_persist_a_drained_entry_that_cannot_be_removed_harms_nobody(
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage, small_disk: Path
) -> None:
    site = make_site(storage=faulty, spool=small_disk / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    faulty.down("settle", times=3)
    browser.get(callback)

    with read_only(small_disk):
        reload = browser.get(callback)
    again = browser.get(callback)

    assert reload.status == 303
    assert "finch=connected" in again.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.usefixtures("hasty")
def test_persist_a_spooled_entry_that_the_database_never_takes_does_not_hold_up_the_others(
    fake: FakeFinch, site: Site, faulty: FaultyStorage
) -> None:
    browsers = [Browser(site), Browser(site)]
    callbacks = [fake.allow(each.location(f"c-{n}")) for n, each in enumerate(browsers)]
    faulty.down("settle", times=7)  # three a token, one in passing
    for browser, callback in zip(browsers, callbacks, strict=True):
        browser.get(callback)
    faulty.heal()
    faulty.raises("settle", StorageUnavailable("unstorable"))

    drained = site.finch.recovery.drain()

    assert len(drained) == 1
    assert len(site.finch.storage.scan(after=None, limit=10).connections) == 1


@pytest.mark.usefixtures("hasty")
def test_persist_a_spooled_entry_that_the_database_never_takes_still_shows_finishing(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, faulty: FaultyStorage
) -> None:
    faulty.down("settle", times=3)
    first = browser.get(callback)
    faulty.raises("settle", RuntimeError("an error of the driver"))

    reload, later = browser.get(callback), browser.get(callback)

    assert "finch=finishing" in first.location
    assert same(first, reload)
    assert "finch=connected" in later.location
    assert fake.ledger.presented(code_of(callback)) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.full
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_persist_killed_at_any_system_call_loses_nothing_unseen(scenario: str) -> None:
    figures = at_every_call(scenario, step=12)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


@pytest.mark.parametrize("scenario", ["stored", "swept"])
@pytest.mark.parametrize("kind", SERVERS)
def test_persist_killed_on_a_server_loses_nothing_unseen(
    server_of: ServerOf, storage_on: Callable[..., Storage], kind: str, scenario: str
) -> None:
    server = server_of(kind)
    storage_on(server)

    figures = at_every_call(scenario, step=30, url=server.url)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 2


@pytest.mark.full
def test_persist_killed_at_a_random_moment_loses_nothing_unseen() -> None:
    figures = at_random("stored", times=30, seed=1)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


def _power_losses(scenario: str, folder: Path) -> tuple[str, list[str]]:
    """The answer of a worker, and what it or Finch was told that a disk then did not hold."""
    faults: list[str] = []
    with running(scenario) as campaign:
        disk = Disk(campaign.folder / "finch.db", folder=folder / "disk")

        def lose_power() -> None:
            finch = campaign.reopened(disk.after_power_loss())
            claimed = finch.storage.attempt(campaign.code_hash()) is not None
            if campaign.fake.ledger.codes[-1].presented and not claimed:
                faults.append(f"sync {disk.syncs}: Finch has the code, and no claim is left")
            if "connected" in (campaign.folder / "answer").read_text():
                faults.extend(_lost(finch, campaign.fake))
            finch.storage.close()  # type: ignore[attr-defined]  # an SQLite has it

        answer = campaign.accompanied(
            lambda worker: standing_still_at_each_sync(
                worker, disk=disk, trace=folder / "trace", before=lose_power
            )
        )
        lose_power()
    return answer, faults


def _lost(finch: FinchConnect, fake: FakeFinch) -> list[str]:
    issued = fake.ledger.codes[-1]
    found = finch.connections.get(issued.connection_id, customer_id=issued.customer_id)
    kept = found is not None and found.access_token.reveal() in issued.minted
    return [] if kept else ["the person was told of success, and the token is gone"]


@pytest.mark.full
def test_persist_power_lost_at_any_sync_loses_nothing_that_anybody_was_told(
    tmp_path: Path,
) -> None:
    answer, faults = _power_losses("stored", tmp_path)

    assert "finch=connected" in answer
    assert faults == []


@pytest.mark.full
def test_persist_power_lost_would_be_noticed_where_nothing_is_synced(tmp_path: Path) -> None:
    answer, faults = _power_losses("unsynced", tmp_path)

    assert "finch=connected" in answer
    assert len(faults) == 2


def test_persist_power_lost_is_met_by_a_sync_of_every_commit(worker: Campaign) -> None:
    calls = [name for name, _ in worker.system_calls()]

    # Claim, end, and the note that on_connected ran; the log of the database may begin anew.
    assert calls.count("fdatasync") in (3, 4)


class BrokenCipher:
    """AES-GCM whose sealed bytes do not come back as they were."""

    def __init__(self, key: bytes) -> None:
        pass

    def encrypt(self, nonce: bytes, text: bytes, context: bytes | None) -> bytes:
        return text

    def decrypt(self, nonce: bytes, text: bytes, context: bytes | None) -> bytes:
        return text[::-1]


def test_persist_sealing_fails_before_anybody_is_sent_to_finch(
    fake: FakeFinch, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.crypto.vault.AESGCM", BrokenCipher)

    with pytest.raises(KeyUnavailable):
        make_site(key=KEY)
    assert fake.ledger.requests == ()


class FailingKeyService:
    """Unwraps until it is told to fail; hangs for a moment first, as one does that is away."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.pause_seconds = 0.0

    def wrap(self, key: bytes) -> bytes:
        return b"wrapped" + key

    def unwrap(self, wrapped: bytes) -> bytes:
        time.sleep(self.pause_seconds)
        if self.fault is not None:
            raise self.fault
        return wrapped.removeprefix(b"wrapped")


@pytest.mark.parametrize("pause_seconds", [0.0, 0.3], ids=["fails", "hangs, then fails"])
def test_persist_sealing_fails_at_the_callback_and_the_code_stays_good(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    pause_seconds: float,
) -> None:
    key_service_is_asked_again_at_once(monkeypatch)
    service = FailingKeyService()
    key = wrapped_key("k1", provider=service)
    site = make_site(key=key, key_provider=service)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    # Another worker, which has not asked for the key yet.
    worker = make_site(key=key, key_provider=service, redirect_uri=site.origin + CALLBACK)
    returning = Browser(worker, dict(browser.cookies))
    service.fault, service.pause_seconds = TimeoutError("no answer"), pause_seconds

    answer = returning.get(callback)
    presented = fake.ledger.presented(code_of(callback))
    service.fault = None
    reload = returning.get(callback)

    assert (answer.status, presented) == (503, 0)
    assert worker.named("finch.key.unavailable")
    assert "finch=connected" in reload.location
    assert fake.ledger.presented(code_of(callback)) == 1
