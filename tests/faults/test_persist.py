"""Persist: after the exchange no token may be lost without a report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.crash_campaign import SCENARIOS, Campaign, at_every_call, at_random, running
from finch_middleware import FinchConnect, exchange
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto import vault
from finch_middleware.crypto.keys import wrapped_key
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen, StorageUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faults import troubles
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import filled, mounted, read_only
from tests.faults.power import Disk, standing_still_at_each_sync
from tests.faulty_storage import FaultyStorage
from tests.site import CALLBACK, KEY, Answer, Browser, Site
from tests.storage.servers import Server
from tests.story.oracle import attempt_of, code_hash, code_of, tokens_of


@contextmanager
def between_claim_and_settling(
    fake: FakeFinch, browser: Browser, callback: str, answers: list[Answer]
) -> Iterator[None]:
    """While the block runs, the code is claimed and with Finch; then its answer comes."""
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        try:
            yield
        finally:
            gate.set()
        answers.append(answer.result())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("failures", [1, 2])
def test_persist_transient_error_is_tried_again_unseen(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, failures: int
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location())
    faulty.down("settle", times=failures)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert len(faulty_site.named("finch.storage.retried")) == 1
    assert tokens_of(faulty_site, "acme") == list(fake.ledger.tokens)


def test_persist_transient_error_of_a_server_that_restarts_is_not_seen(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    postgresql: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0, 0.2, 3.3))
    site = make_site(storage=storage_on(postgresql), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        with troubles.gone(postgresql):
            gate.set()
            time.sleep(0.1)

    assert "finch=connected" in answer.result().location
    assert len(site.named("finch.storage.retried")) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "redis"])
def test_persist_storage_down_for_good_spools_and_says_finishing(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
) -> None:
    server: Server = request.getfixturevalue(kind)
    site = make_site(storage=storage_on(server), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    gate = threading.Event()
    fake.script("token", Behaviour.hold(gate))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(browser.get, callback)
        fake.ledger.wait_for_calls("token")
        with troubles.gone(server):
            gate.set()
            answer = first.result()
            waiting = [path.stem for path in (tmp_path / "spool").glob("*.json")]
    reload = browser.get(callback)

    assert answer.location.startswith("/settings?finch=finishing")
    assert waiting == [code_hash(fake, code_of(callback)).hex()]
    assert len(site.named("finch.token.spooled")) == 1
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
def test_persist_storage_and_spool_fail_and_the_loss_is_reported(
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage
) -> None:
    with mounted(kibibytes=64) as disk, ExitStack() as trouble:
        site = make_site(storage=faulty, spool=disk / "spool")
        browser = Browser(site)
        callback = fake.allow(browser.location())
        answers: list[Answer] = []

        with between_claim_and_settling(fake, browser, callback, answers):
            faulty.down("settle")
            trouble.enter_context(filled(disk))

    assert answers[0].status == 500
    [event] = site.named("finch.token.lost")
    assert event.connection_id == fake.ledger.codes[0].connection_id
    assert event.customer_ids == ("acme",)
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
    postgresql: Server,
    proxy: CuttingProxy,
    tmp_path: Path,
    forwarded: bool,
) -> None:
    site = make_site(storage=storage_on(postgresql, url=proxy.url), spool=tmp_path / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    answers: list[Answer] = []

    with between_claim_and_settling(fake, browser, callback, answers):
        proxy.cut_at_commit(forwarded=forwarded)

    assert proxy.cut
    assert "finch=connected" in answers[0].location
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


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql", "mysql", "redis"])
def test_persist_same_connection_twice_in_parallel_keeps_the_newest(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/finch.db"}.get(kind)
    storage = url or storage_on(request.getfixturevalue(kind))
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

        answers = _at_once(list(zip(browsers, callbacks, strict=True)))

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


def _at_once(visits: list[tuple[Browser, str]]) -> list[Answer]:
    together = threading.Barrier(len(visits))

    def visit(browser: Browser, callback: str) -> Answer:
        together.wait()
        return browser.get(callback)

    with ThreadPoolExecutor(len(visits)) as pool:
        return list(pool.map(lambda each: visit(*each), visits))


@pytest.mark.usefixtures("hasty")
def test_persist_old_spool_entry_does_not_replace_a_newer_token(
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage, clock: Clock
) -> None:
    site = make_site(storage=faulty)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    faulty.down("settle", times=3)
    browser.get(callback)
    waiting = site.finch.recovery._spool.entry(code_hash(fake, code_of(callback)))
    assert waiting is not None
    clock.move(clock().resolution * 1_000_000)
    browser.get(fake.allow(browser.location()))
    site.finch.recovery._spool.put(waiting.attempt, waiting.connection)

    drained = site.finch.recovery.drain()

    assert len(drained) == 1
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
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage
) -> None:
    site = make_site(storage=faulty)
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


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_persist_killed_at_any_system_call_loses_nothing_unseen(scenario: str) -> None:
    figures = at_every_call(scenario, step=12)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


@pytest.mark.parametrize("scenario", ["stored", "swept"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "redis"])
def test_persist_killed_on_a_server_loses_nothing_unseen(
    request: pytest.FixtureRequest, storage_on: Callable[..., Storage], kind: str, scenario: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    storage_on(server)

    figures = at_every_call(scenario, step=30, url=server.url)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 2


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


def test_persist_power_lost_at_any_sync_loses_nothing_that_anybody_was_told(
    tmp_path: Path,
) -> None:
    answer, faults = _power_losses("stored", tmp_path)

    assert "finch=connected" in answer
    assert faults == []


def test_persist_power_lost_would_be_noticed_where_nothing_is_synced(tmp_path: Path) -> None:
    answer, faults = _power_losses("unsynced", tmp_path)

    assert "finch=connected" in answer
    assert len(faults) == 2


def test_persist_power_lost_is_met_by_a_sync_of_every_commit(worker: Campaign) -> None:
    calls = [name for name, _ in worker.system_calls()]

    # Claim, end, and the note that on_connected ran; the log of the database may begin anew.
    assert calls.count("fdatasync") in (3, 4)


def test_persist_sealing_fails_before_anybody_is_sent_to_finch(
    fake: FakeFinch, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Vault, *_: object, **__: object) -> None:
        raise CannotOpen(key_id="k1")

    monkeypatch.setattr(Vault, "open", broken)

    with pytest.raises(CannotOpen):
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
    monkeypatch.setattr(vault, "_LEFT_ALONE_SECONDS", 0.0)
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
