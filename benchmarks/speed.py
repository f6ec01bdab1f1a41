"""
What is claimed about speed, as ratios measured in one run: ``python benchmarks/speed.py``.

Each line is A/B: the cost of the library over the cost of the thing that it is compared to, in
turns, so that a slow moment of the machine slows both. The median of the rounds is printed,
with the smallest and the largest.
"""

from __future__ import annotations

import logging
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from werkzeug.test import EnvironBuilder

from finch_middleware import CallbackRequest, Connected, FinchConnect, FinchMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.secret import Secret
from finch_middleware.testing import FakeFinch


def seconds(work: Callable[[], object], *, times: int) -> float:
    """Wall time of one call, over *times* of them."""
    if isinstance(work, Imported):
        return work()
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def compared(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], **how: int
) -> None:
    """Print the ratio of *ours* to *theirs*, round by round in turns."""
    rounds, times = how.get("rounds", 9), how.get("times", 1)
    ratios, costs = [], []
    for _ in range(rounds):
        cost = seconds(ours, times=times)
        ratios.append(cost / seconds(theirs, times=times))
        costs.append(cost)
    middle = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    cost_us = statistics.median(costs) * 1e6
    print(f"{name:<58} {middle:8.2f}  ({spread}; ours {cost_us:,.1f} µs)")


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def ignore(*_: Any) -> Any:
    """A start_response that keeps nothing."""


def connect(fake: FakeFinch, storage: str) -> FinchConnect:
    return FinchConnect(
        client_id=fake.client_id,
        client_secret=fake.client_secret,
        redirect_uri="http://localhost/finch/callback",
        products=["company"],
        storage=storage,
        key=new_key("k1"),
        api_url=fake.api_url,
        connect_origin=fake.connect_origin,
    )


class Returns:
    """Callbacks that are ready to be finished, each of a customer of its own."""

    def __init__(self, fake: FakeFinch, finch: FinchConnect) -> None:
        self._fake, self._finch, self._number = fake, finch, 0

    def prepared(self) -> CallbackRequest:
        self._number += 1
        begun = self._finch.begin(customer_id=f"customer-{self._number}", customer_name="Acme")
        cookie = begun.headers["Set-Cookie"].partition(";")[0]
        query = self._fake.allow(begun.headers["Location"]).partition("?")[2]
        return CallbackRequest(query_string=query, headers={"Cookie": cookie})


def finishing(fake: FakeFinch, finch: FinchConnect, *, count: int) -> Callable[[], object]:
    returns = Returns(fake, finch)
    waiting = [returns.prepared() for _ in range(count)]

    def finish() -> None:
        outcome = finch.finish(waiting.pop())
        assert isinstance(outcome, Connected), outcome

    return finish


def two_commits(path: Path) -> Callable[[], object]:
    """The least that two durable commits in SQLite cost on this disk."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT)")

    def commit() -> None:
        for _ in range(2):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO row (text) VALUES (?)", ("x" * 600,))
            database.execute("COMMIT")

    return commit


def main() -> None:
    logging.disable(logging.CRITICAL)
    print(f"{'ours / compared to':<58} {'ratio':>8}")
    compared(
        "import finch_middleware / import requests",
        Imported("finch_middleware"),
        Imported("requests"),
    )
    with FakeFinch() as fake, tempfile.TemporaryDirectory() as folder:
        finch = connect(fake, "memory://")
        wrapped = FinchMiddleware(application, finch)
        environ = EnvironBuilder(path="/elsewhere").get_environ()
        compared(
            "a request that is not ours: wrapped / bare application",
            lambda: wrapped(environ, ignore),
            lambda: application(environ, ignore),
            times=20_000,
        )
        on_disk = connect(fake, f"sqlite:///{folder}/finch.db")
        commits = two_commits(Path(folder, "bare.db"))
        rounds, times = 9, 20
        compared(
            "a whole callback on SQLite / two bare SQLite commits",
            finishing(fake, on_disk, count=rounds * times),
            commits,
            rounds=rounds,
            times=times,
        )
        compared(
            "a whole callback in memory / the same on SQLite",
            finishing(fake, finch, count=rounds * times),
            finishing(fake, connect(fake, f"sqlite:///{folder}/other.db"), count=rounds * times),
            rounds=rounds,
            times=times,
        )
        secret = Secret("x" * 600)
        sealed = finch.vault.seal(secret, purpose="connection")
        compared(
            "seal and open one answer / two bare SQLite commits",
            lambda: finch.vault.open(
                finch.vault.seal(secret, purpose="connection"), purpose="connection"
            ),
            commits,
            times=50,
        )
        assert finch.vault.open(sealed, purpose="connection") == secret


class Imported:
    """The time that an interpreter needs to import a module, without its own start."""

    def __init__(self, module: str) -> None:
        self._code = (
            "import time; began = time.perf_counter();"
            f"import {module}; print(time.perf_counter() - began)"
        )

    def __call__(self) -> float:
        done = subprocess.run([sys.executable, "-c", self._code], capture_output=True, check=True)
        return float(done.stdout)


if __name__ == "__main__":
    main()
