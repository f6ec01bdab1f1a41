"""
Keys changed under load: ``python -m benchmarks.rotation sqlite --rows 100000``.

`finch-middleware rotate-keys` re-seals every row in a process of its own, killed and started
again if asked for, while four processes read, re-authenticate and update rows. Each writer owns
a part of the rows and knows what it wrote last: afterwards every row must say exactly that.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import create_engine, insert

from benchmarks import databases
from finch_middleware import FinchConnect
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import FinchError
from finch_middleware.records import StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

_CHUNK = 5_000
# Between one person and the next; without it SQLite's writers starve each other by themselves.
_THINK_SECONDS = 0.05
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class Written:
    """
    What one writer did.

    Attributes:
        expected: Connection id: its status and token as last confirmed.
        faults: Reads and writes that failed.
        slowest_ms: The longest that one of its operations took.
    """

    expected: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    reads: int = 0
    updates: int = 0
    slowest_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """
    What the whole came to.

    Attributes:
        lost: Connections that do not say what was last confirmed.
        left: Tokens that are still under the old key.
        processor_seconds, peak_mib: Of the rotation's process, which also counts the rows.
    """

    rows: int
    seconds: float
    processor_seconds: float
    reads: int
    updates: int
    faults: list[str]
    lost: list[str]
    left: int
    slowest_ms: float
    peak_mib: float


def environ(url: str, *, key: str, accepted_keys: str = "") -> dict[str, str]:
    """The settings of one deploy."""
    return {
        "FINCH_CLIENT_ID": "client",
        "FINCH_CLIENT_SECRET": "s3cret",
        "FINCH_REDIRECT_URI": "https://app.test/finch/callback",
        "FINCH_PRODUCTS": "company",
        "FINCH_STORAGE_URL": url,
        "FINCH_SPOOL": "none",
        "FINCH_KEY": key,
        "FINCH_ACCEPTED_KEYS": accepted_keys,
    }


def row(finch: FinchConnect, number: int, *, token: str, at: datetime) -> StoredConnection:
    """The connection of that number, with that token."""
    name = f"connection-{number}"
    answer = Secret(json.dumps({"access_token": token, "connection_id": name}))
    return StoredConnection(
        connection_id=name,
        customer_id=f"customer-{number}",
        client_id="client",
        provider_id="gusto",
        products=("company", "directory", "employment"),
        client_type="production",
        connection_type="provider",
        status="connected",
        sealed=finch.vault.seal_grant(answer, connection_id=name, customer_id=f"customer-{number}"),
        obtained_at=at,
        attempt_id=f"first-{number}",
    )


def fill(finch: FinchConnect, url: str, *, numbers: range) -> None:
    """Write those connections in a few large transactions where there are any."""
    if url.startswith(("redis", "unix")):
        for i in numbers:
            finch.storage.settle(_first(i), row(finch, i, token=f"token-{i}", at=_BEGAN))
        return
    storage = SQLAlchemyStorage(url)
    storage.create_tables()
    engine = create_engine(url)
    table = storage.metadata.tables["finch_connections"]
    for start in range(numbers.start, numbers.stop, _CHUNK):
        part = range(start, min(start + _CHUNK, numbers.stop))
        rows = [row(finch, i, token=f"token-{i}", at=_BEGAN).as_row() for i in part]
        with engine.begin() as connection:
            connection.execute(insert(table), rows)
    engine.dispose()
    storage.close()


def _first(number: int) -> Attempt:
    """The attempt that brought the connection of that number."""
    return Attempt(
        attempt_id=f"first-{number}",
        code_hash=number.to_bytes(32),
        client_id="client",
        customer_ids=(f"customer-{number}",),
        state=AttemptState.STORED,
        reference="BENCHMRK",
        claimed_at=_BEGAN,
        leased_until=_BEGAN,
        settled_at=_BEGAN,
    )


def write(settings: dict[str, str], mine: range, folder: str) -> Written:
    """Read and change the rows of *mine*, at random, until the file ``stop`` is in *folder*."""
    finch = FinchConnect.from_env(settings)
    # Opens a session and checks the tables, which takes ten times as long as a change.
    finch.storage.check()
    done, chance = Written(), random.Random(mine.start)
    while not Path(folder, "stop").exists():
        number = chance.choice(mine)
        began = time.monotonic()
        try:
            _change(finch, number, done, chance=chance)
        except FinchError as error:
            done.faults.append(f"{type(error).__name__}: {error}")
            # Whether it was written is not known, so nothing is expected of it any more.
            done.expected.pop(f"connection-{number}", None)
        done.slowest_ms = max(done.slowest_ms, (time.monotonic() - began) * 1000)
        Path(folder, f"at-work-{mine.start}").touch()
        time.sleep(_THINK_SECONDS)
    return done


def _change(finch: FinchConnect, number: int, done: Written, *, chance: random.Random) -> None:
    name = f"connection-{number}"
    connection = finch.connections.get(name, customer_id=f"customer-{number}")
    assert connection is not None
    told = (connection.status, connection.access_token.reveal())
    done.reads += 1
    if done.expected.get(name, told) != told:
        done.faults.append(f"{name} had lost an update when it was read")
    if chance.random() < 0.5:
        done.expected[name] = _reauthenticated(finch, number, chance=chance)
    else:
        done.expected[name] = _updated(finch, name, token=told[1], chance=chance)
    done.updates += 1


def _reauthenticated(
    finch: FinchConnect, number: int, *, chance: random.Random
) -> tuple[str | None, str]:
    """A new token for the same connection, as a callback writes it."""
    nonce = chance.randbytes(16)
    token, now = f"token-{nonce.hex()}", datetime.now(UTC)
    attempt = Attempt(
        attempt_id=nonce.hex(),
        code_hash=nonce * 2,
        client_id="client",
        customer_ids=(f"customer-{number}",),
        reference="BENCHMRK",
        claimed_at=now,
        leased_until=now + timedelta(seconds=60),
    )
    stored = row(finch, number, token=token, at=now)
    stored = dataclasses.replace(stored, attempt_id=attempt.attempt_id)
    finch.storage.claim(attempt)
    finch.storage.settle(attempt.settled(AttemptState.STORED, at=now), stored)
    return stored.status, token


def _updated(
    finch: FinchConnect, name: str, *, token: str, chance: random.Random
) -> tuple[str | None, str]:
    """Another status, as a webhook writes it."""
    status = f"status {chance.random()}"
    while True:
        stored = finch.storage.get(name)
        assert stored is not None
        if finch.storage.swap(stored, dataclasses.replace(stored, status=status)):
            return status, token


def tried(
    url: str,
    *,
    rows: int,
    writers: int,
    kills: int = 0,
    prepare: Callable[[], object] | None = None,
) -> Trial:
    """Fill, then rotate while *writers*, after *prepare*, work; kill the rotation so often."""
    old, new = new_key("k0"), new_key("k1")
    fill(FinchConnect.from_env(environ(url, key=old)), url, numbers=range(rows))
    settings = environ(url, key=new, accepted_keys=old)
    with writing(settings, rows=rows, writers=writers, prepare=prepare) as at_work:
        began = time.monotonic()
        spent, peak = _rotated(settings, kills=kills, pause=rows / 20_000)
        seconds = time.monotonic() - began
    written = [each.result() for each in at_work]
    without_old = FinchConnect.from_env(environ(url, key=new))
    return Trial(
        rows=rows,
        seconds=seconds,
        processor_seconds=spent,
        reads=sum(each.reads for each in written),
        updates=sum(each.updates for each in written),
        faults=[fault for each in written for fault in each.faults],
        lost=list(_lost(without_old, written)),
        left=without_old.rotation.outdated(without_old.rotation.census()),
        slowest_ms=max(each.slowest_ms for each in written),
        peak_mib=peak,
    )


@contextmanager
def writing(
    settings: dict[str, str],
    *,
    rows: int,
    writers: int,
    prepare: Callable[[], object] | None = None,
) -> Iterator[list[Future[Written]]]:
    """So many processes of `write`, each with its part of the rows, which work until the end."""
    share, spawning = rows // writers, get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(writers, mp_context=spawning, initializer=prepare) as pool,
    ):
        at_work = [
            pool.submit(write, settings, range(i * share, (i + 1) * share), folder)
            for i in range(writers)
        ]
        try:
            # A rotation of few rows would be over before they had started.
            while len(list(Path(folder).iterdir())) < writers:
                time.sleep(0.01)
            yield at_work
        finally:
            Path(folder, "stop").touch()


def _rotated(settings: dict[str, str], *, kills: int, pause: float) -> tuple[float, float]:
    """
    Run the command to its end, killed and started again.

    Its processor time in seconds, and the peak of its memory in MiB.
    """
    command = [sys.executable, "-m", "finch_middleware.cli", "rotate-keys"]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = ended.ru_utime + ended.ru_stime
    for _ in range(kills):
        process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
        time.sleep(2 + pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime - before, used.ru_maxrss / 1024


def _lost(finch: FinchConnect, written: list[Written]) -> Iterator[str]:
    expected = {name: told for each in written for name, told in each.expected.items()}
    for name, told in expected.items():
        customer_id = name.replace("connection", "customer")
        connection = finch.connections.get(name, customer_id=customer_id)
        if connection is None or (connection.status, connection.access_token.reveal()) != told:
            yield name


def main() -> None:
    """Print what a trial came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", help=databases.HELP)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    with databases.named(given.database) as url:
        trial = tried(url, rows=given.rows, writers=given.writers, kills=given.kills)
    for name, value in dataclasses.asdict(trial).items():
        print(f"{name:<12} {value if not isinstance(value, list) else len(value)}")
    for fault in (*trial.faults, *trial.lost)[:10]:
        print(fault)


if __name__ == "__main__":
    main()
