"""Table 2.5, persist: behind the point of no return no token may be lost unseen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.crash_campaign import SCENARIOS, Campaign, at_every_call, at_random
from finch_middleware import keeping
from finch_middleware.errors import CannotOpen, StorageUnavailable
from finch_middleware.records import AttemptState
from finch_middleware.storage import Storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from finch_middleware.vault import Vault
from tests.faults import troubles
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import filled, mounted, read_only
from tests.site import KEY, Answer, Browser, Site
from tests.storage.servers import Server
from tests.story.oracle import attempt_of, code_key, code_of, tokens_of
from tests.story.troubled_storage import TroubledStorage

# PyMySQL leaves its socket unclosed where nobody listens.
pymysql_leaves_sockets = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


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
    fake: FakeFinch, troubled_site: Site, troubled: TroubledStorage, failures: int
) -> None:
    browser = Browser(troubled_site)
    callback = fake.allow(browser.location())
    troubled.down("settle", times=failures)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert len(troubled_site.named("finch.storage.retried")) == 1
    assert tokens_of(troubled_site, "acme") == list(fake.ledger.tokens)


def test_persist_transient_error_of_a_server_that_restarts_is_not_seen(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_on: Callable[..., Storage],
    postgresql: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "SETTLE_PAUSES", (0.0, 0.2, 3.3))
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


@pymysql_leaves_sockets
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
    assert waiting == [code_key(fake, code_of(callback)).hex()]
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
    fake: FakeFinch, make_site: Callable[..., Site], troubled: TroubledStorage
) -> None:
    with mounted(kibibytes=64) as disk, ExitStack() as trouble:
        site = make_site(storage=troubled, spool=disk / "spool")
        browser = Browser(site)
        callback = fake.allow(browser.location())
        answers: list[Answer] = []

        with between_claim_and_settling(fake, browser, callback, answers):
            troubled.down("settle")
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
    assert len(site.finch.storage.scan(after=None, limit=10)) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.parametrize("rounds", [20])
def test_persist_same_connection_twice_in_parallel_keeps_the_newest(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock, rounds: int
) -> None:
    one = make_site()
    for _ in range(rounds):
        browsers = [Browser(one), Browser(one)]
        callbacks = [fake.allow(each.location()) for each in browsers]
        together = threading.Barrier(2)

        def visit(number: int, *, started: threading.Barrier = together) -> Answer:
            started.wait()
            return browsers[number].get(callbacks[number])  # noqa: B023  # used within the round

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(visit, range(2)))

        attempts = [attempt_of(one, fake, code_of(each)) for each in callbacks]
        assert all("finch=connected" in each.location for each in answers)
        assert all(each and each.state is AttemptState.STORED for each in attempts)
        [token] = tokens_of(one, "acme")
        assert token in fake.ledger.tokens[-2:]


@pytest.mark.usefixtures("hasty")
def test_persist_old_spool_entry_does_not_replace_a_newer_token(
    fake: FakeFinch, make_site: Callable[..., Site], troubled: TroubledStorage, clock: Clock
) -> None:
    site = make_site(storage=troubled)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    troubled.down("settle", times=3)
    browser.get(callback)
    waiting = site.finch.recovery._spool.entry(code_key(fake, code_of(callback)))
    assert waiting is not None
    clock.move(clock().resolution * 1_000_000)
    browser.get(fake.allow(browser.location()))
    site.finch.recovery._spool.put(waiting.attempt, waiting.connection)

    drained = site.finch.recovery.drain()

    assert len(drained) == 1
    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]


def test_persist_a_drained_entry_that_cannot_be_removed_harms_nobody(
    fake: FakeFinch, make_site: Callable[..., Site], troubled: TroubledStorage, small_disk: Path
) -> None:
    site = make_site(storage=troubled, spool=small_disk / "spool")
    browser = Browser(site)
    callback = fake.allow(browser.location())
    troubled.down("settle", times=3)
    browser.get(callback)

    with read_only(small_disk):
        reload = browser.get(callback)
    again = browser.get(callback)

    assert reload.status == 303
    assert "finch=connected" in again.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.usefixtures("hasty")
def test_persist_a_spooled_entry_that_the_database_never_takes_does_not_hold_up_the_others(
    fake: FakeFinch, make_site: Callable[..., Site], troubled: TroubledStorage
) -> None:
    site = make_site(storage=troubled)
    browsers = [Browser(site), Browser(site)]
    callbacks = [fake.allow(each.location(f"c-{n}")) for n, each in enumerate(browsers)]
    troubled.down("settle", times=7)  # three a token, one in passing
    for browser, callback in zip(browsers, callbacks, strict=True):
        browser.get(callback)
    troubled.heal()
    troubled.raises("settle", StorageUnavailable("unstorable"))

    drained = site.finch.recovery.drain()

    assert len(drained) == 1
    assert len(site.finch.storage.scan(after=None, limit=10)) == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_persist_killed_at_any_system_call_loses_nothing_unseen(scenario: str) -> None:
    figures = at_every_call(scenario, step=12)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


def test_persist_killed_at_a_random_moment_loses_nothing_unseen() -> None:
    figures = at_random("stored", times=30, seed=1)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


def test_persist_power_lost_after_success_keeps_the_token(
    fake: FakeFinch, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = make_site()
    browser = Browser(site)
    browser.get(fake.allow(browser.location()))

    # As the disk stands at this moment, nobody having closed anything.
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("finch.db*"):
        if path.is_file() and not path.name.endswith("-shm"):
            (copy / path.name).write_bytes(path.read_bytes())
    reopened = make_site(storage=f"sqlite:///{copy}/finch.db")

    assert tokens_of(reopened, "acme") == list(fake.ledger.tokens)


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
