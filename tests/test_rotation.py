"""Keys are changed while the application runs: no read fails, no newer token is lost."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import tracemalloc
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rotation import Trial, tried
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.config.readers import utc_now
from finch_middleware.connect import FinchConnect
from finch_middleware.crypto.keys import new_key
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import StorageUnavailable
from finch_middleware.operations import rotation
from finch_middleware.operations.rotation import Rotated, Rotation
from finch_middleware.records import SealedToken, StoredConnection, StoredToken
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.storage.spool import Spool
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.rows import add_connection
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt
from tests.faulty_storage import FaultyStorage
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.site import CALLBACK, Browser, MakeSite
from tests.storages import SERVERS, options_of
from tests.waiting import wait_until
from tests.worker_processes import workers_of

OLD, NEW = new_key("k0"), new_key("k1")


def connect(storage: Storage, *, key: str, accepted_keys: tuple[str, ...] = ()) -> FinchConnect:
    return FinchConnect(
        client_id="client",
        client_secret="s3cret",
        redirect_uri="https://app.test/finch/callback",
        products=["company"],
        storage=storage,
        spool=None,
        key=key,
        accepted_keys=accepted_keys,
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def before(storage: MemoryStorage) -> FinchConnect:
    return connect(storage, key=OLD)


@pytest.fixture
def after(storage: MemoryStorage) -> FinchConnect:
    return connect(storage, key=NEW, accepted_keys=(OLD,))


def ended(finch: FinchConnect) -> Rotated:
    """What a whole rotation has done."""
    [*_, rotated] = finch.rotation.run()
    return rotated


def token_of(finch: FinchConnect, connection_id: str) -> str:
    connection = finch.connections.get(connection_id, customer_id="acme")
    assert connection is not None
    return connection.access_token.reveal()


@pytest.fixture
def faulty() -> FaultyStorage:
    return FaultyStorage(MemoryStorage())


@pytest.mark.parametrize("key", [OLD, NEW], ids=["old", "new"])
def test_a_token_that_comes_meanwhile_is_not_written_over(faulty: FaultyStorage, key: str) -> None:
    before = connect(faulty, key=OLD, accepted_keys=(NEW,))
    worker = connect(faulty, key=key, accepted_keys=(NEW if key == OLD else OLD,))
    old = add_connection(before, customer_id="acme", connection_id="c", access_token="first")
    later = old.obtained_at + timedelta(seconds=1)
    faulty.before(
        "swap",
        lambda: add_connection(
            worker, customer_id="acme", connection_id="c", access_token="second", obtained_at=later
        ),
    )

    ended(connect(faulty, key=NEW, accepted_keys=(OLD,)))

    assert token_of(connect(faulty, key=NEW), "c") == "second"


def test_a_connection_that_is_deleted_meanwhile_stays_deleted(faulty: FaultyStorage) -> None:
    before = connect(faulty, key=OLD)
    add_connection(before, customer_id="acme", connection_id="c")
    faulty.before("swap", lambda: before.connections.forget("c", customer_id="acme"))

    rotated = ended(connect(faulty, key=NEW, accepted_keys=(OLD,)))

    assert rotated.resealed == 0
    assert faulty.get("c") is None


def test_a_status_that_changes_meanwhile_is_kept(faulty: FaultyStorage) -> None:
    before = connect(faulty, key=OLD)
    add_connection(before, customer_id="acme", connection_id="c")
    stored = faulty.get("c")
    assert stored is not None
    changed = dataclasses.replace(stored, status="reauth")
    faulty.before("swap", lambda: faulty.real.swap(stored, changed))

    ended(connect(faulty, key=NEW, accepted_keys=(OLD,)))

    latest = faulty.get("c")
    assert latest is not None
    assert (latest.status, latest.sealed.key_id) == ("reauth", "k1")


def test_a_row_that_never_holds_still_is_busy(faulty: FaultyStorage) -> None:
    add_connection(connect(faulty, key=OLD), customer_id="acme", connection_id="c")

    def touch() -> None:
        stored = faulty.get("c")
        assert stored is not None
        status = f"{stored.status}."
        faulty.real.swap(stored, dataclasses.replace(stored, status=status))
        faulty.before("swap", touch)

    faulty.before("swap", touch)

    with pytest.raises(StorageUnavailable) as refused:
        ended(connect(faulty, key=NEW, accepted_keys=(OLD,)))

    assert refused.value.reason == "busy"


def held(finch: FinchConnect, *, sealed_for: str | None = None) -> Attempt:
    """A quarantined attempt, sealed by *finch*."""
    attempt = an_attempt(client_id="client")
    answer = Secret(json.dumps({"access_token": "held"}))
    sealed = finch.vault.seal_quarantined(answer, attempt_id=sealed_for or attempt.attempt_id)
    return attempt.settled(AttemptState.QUARANTINED, at=NOON, sealed=sealed)


def test_a_quarantined_token_that_is_completed_meanwhile_stays_completed(
    faulty: FaultyStorage,
) -> None:
    attempt = held(connect(faulty, key=OLD))
    faulty.settle(attempt)
    completed = attempt.settled(AttemptState.STORED, at=NOON, sealed=None)
    faulty.before("settle", lambda: faulty.real.settle(completed))

    rotated = ended(connect(faulty, key=NEW, accepted_keys=(OLD,)))

    assert rotated.resealed == 0
    assert faulty.attempt(attempt.code_hash) == completed


@pytest.mark.parametrize("key_id", ["k0", "k1"])
def test_a_quarantined_token_that_does_not_open_is_left_and_counted(
    storage: MemoryStorage, before: FinchConnect, after: FinchConnect, key_id: str
) -> None:
    attempt = held(before if key_id == "k0" else after, sealed_for="another")
    storage.settle(attempt)

    rotated = ended(after)

    assert (rotated.resealed, rotated.unopened) == (0, {key_id: 1})
    assert storage.attempt(attempt.code_hash) == attempt


def test_what_is_under_the_current_key_is_not_written_again(
    storage: MemoryStorage, before: FinchConnect, after: FinchConnect
) -> None:
    add_connection(before, customer_id="acme", connection_id="c")
    storage.settle(held(before))
    ended(after)
    rows = (storage.get("c"), list(storage.quarantined()))

    again = ended(after)

    assert (again.seen, again.resealed) == (2, 0)
    assert (storage.get("c"), list(storage.quarantined())) == rows


@pytest.mark.parametrize(("troubles", "survives"), [(2, True), (3, False)])
def test_a_busy_storage_is_asked_again_and_not_for_ever(troubles: int, survives: bool) -> None:
    storage = FaultyStorage(MemoryStorage())
    add_connection(connect(storage, key=OLD), customer_id="acme", connection_id="c")
    after = connect(storage, key=NEW, accepted_keys=(OLD,))
    storage.raises("swap", StorageUnavailable("busy"), times=troubles)

    if survives:
        assert ended(after).resealed == 1
        return
    with pytest.raises(StorageUnavailable):
        ended(after)
    assert ended(after).resealed == 1


@pytest.mark.full
def test_memory_stays_flat_however_many_rows_there_are(storage: MemoryStorage) -> None:
    peaks = [_peak(rows) for rows in (2_000, 8_000)]

    assert peaks[1] < peaks[0] * 1.5


class Endless(MemoryStorage):
    """As many rows as asked for, made when they are read."""

    def __init__(self, vault: Vault, *, rows: int) -> None:
        super().__init__()
        self._vault = vault
        self._rows = rows

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start = after or 0
        end = min(start + limit, self._rows)
        rows = [self._row(i) for i in range(start, end)]
        return Scan(rows=rows, after=end if rows else None)

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        return [True] * len(changes)

    def _row(self, number: int) -> StoredConnection:
        name = f"{number}"
        sealed = self._vault.seal_grant(Secret("{}"), connection_id=name, customer_id="acme")
        return a_connection(name, client_id="client", customer_id="acme", sealed=sealed)


def _peak(rows: int) -> int:
    before = connect(MemoryStorage(), key=OLD).vault
    after = connect(MemoryStorage(), key=NEW, accepted_keys=(OLD,)).vault
    rotation = Rotation(
        client_id="client", vault=after, storage=Endless(before, rows=rows), spool=Spool(None)
    )
    tracemalloc.start()
    for rotated in rotation.run():
        seen = rotated
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen.resealed == rows
    return peak


# Two deploys


FIRST_DEPLOY = ({"key": OLD}, {"key": OLD, "accepted_keys": [NEW]})
SECOND_DEPLOY = ({"key": OLD, "accepted_keys": [NEW]}, {"key": NEW, "accepted_keys": [OLD]})


@pytest.mark.full
@pytest.mark.parametrize("storage_options", ["sqlite"], indirect=True)
@pytest.mark.parametrize("deploy", [FIRST_DEPLOY, SECOND_DEPLOY], ids=["first", "second"])
def test_workers_of_both_settings_finish_what_the_other_began(
    fake: FakeFinch,
    make_site: MakeSite,
    storage_options: dict[str, Any],
    tmp_path: Path,
    deploy: tuple[dict[str, Any], ...],
) -> None:
    sites = [make_site(clock=utc_now, **each) for each in deploy]
    # Whoever begins, the return is to one address.
    uri = sites[0].origin + CALLBACK
    beginners = [make_site(clock=utc_now, redirect_uri=uri, **each) for each in deploy]

    with workers_of(fake, sites[0], storage_options, *deploy, log=tmp_path / "log") as places:
        visitors = [Browser(place) for place in places]
        for number, (beginner, visitor) in enumerate(
            (beginner, visitor) for beginner in beginners for visitor in visitors
        ):
            browser = Browser(beginner)
            path = fake.allow(browser.location(f"customer-{number}")).removeprefix(sites[0].origin)
            visitor.cookies = dict(browser.cookies)
            assert "finch=connected" in visitor.get(path).location

    for site in sites:
        tokens = [
            connection.access_token.reveal()
            for number in range(4)
            for connection in site.finch.connections.for_customer(f"customer-{number}")
        ]
        assert sorted(tokens) == sorted(fake.ledger.tokens)
        assert len(tokens) == 4


# While others write


@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
@pytest.mark.full
def test_no_read_fails_and_no_update_is_lost_while_four_processes_write(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = options_of(kind, request=request, folder=tmp_path)["storage"]
    before = set(threading.enumerate())

    patient = functools.partial(wait_for_databases, PATIENCE_SECONDS)
    trial: Trial = tried(url, rows=600, writers=4, prepare=patient)

    assert trial.faults == []
    assert trial.updates > 0
    assert trial.lost == []
    assert trial.left == 0
    wait_until(lambda: set(threading.enumerate()) <= before)
