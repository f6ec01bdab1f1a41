"""
Callbacks at a steady rate while the database is stopped and started: ``python -m benchmarks.load``.

Every person reloads where the page says that reloading helps. The database is a private server
that is stopped without a goodbye. Finch's own ledger is held against what stands in the end:
no code was presented while the database was down, none twice, and no token was lost.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from finch_middleware import CallbackRequest, Event, FinchConnect
from finch_middleware.attempts import AttemptState
from finch_middleware.crypto.keys import new_key
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.outcomes import Connected, Failed, Finishing, Outcome, Repeated, Retry
from finch_middleware.secret import Secret
from finch_middleware.storage.open import open_storage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch, IssuedCode
from tests.storage import servers

#: How each database is ended without a goodbye; PostgreSQL's is `pg_ctl stop -m immediate`.
GOODBYES = {
    "postgresql": signal.SIGQUIT,
    "mysql": signal.SIGKILL,
    "redis": signal.SIGKILL,
}
_SERVED: dict[str, Callable[[], AbstractContextManager[servers.Server]]] = {
    "postgresql": servers.postgresql,
    "mysql": servers.mysql,
    "redis": servers.redis,
}
_RELOAD_SECONDS = 1.0
_SOON_SECONDS = 2.0
_PATIENCE_SECONDS = 240
_THREADS = 40
LATER = timedelta(minutes=5)


@dataclass
class Figures:
    """What a run saw; `faults` is empty where every promise was kept."""

    downs: list[tuple[datetime, datetime]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    first_success_seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def late(self) -> bool:
        """Whether a database was back for some time before anybody was connected."""
        return max(self.first_success_seconds, default=0) > _SOON_SECONDS

    def lines(self) -> list[str]:
        """The figures, for people."""
        away = sum((up - down).total_seconds() for down, up in self.downs)
        first = max(self.first_success_seconds, default=0)
        return [
            f"database down {len(self.downs)} times, {away:.1f} s in all",
            f"first success after it is back: at the latest after {first:.2f} s",
            "answers: " + ", ".join(f"{word} {n}" for word, n in self.answers.most_common()),
            "codes: " + ", ".join(f"{word} {n}" for word, n in self.ends.most_common()),
            f"faults: {len(self.faults)}",
            *(f"  {fault}" for fault in self.faults),
        ]


class Person:
    """Somebody who comes back from Finch Connect, and reloads while that helps."""

    def __init__(self, request: CallbackRequest) -> None:
        self._request = request

    def visit(self, finch: FinchConnect) -> Outcome:
        """One request to the callback."""
        return finch.finish(self._request)


class Load:
    """One run against one database server."""

    def __init__(self, server: servers.Server, *, seed: int) -> None:
        self.figures = Figures()
        self._server = server
        self._random = random.Random(seed)
        self._events: list[Event] = []
        self._due: list[tuple[float, int, Person]] = []
        self._successes: list[float] = []
        self._lock = threading.Lock()

    def run(self, fake: FakeFinch, *, spool: str, seconds: float, rate: float) -> None:
        """*rate* new callbacks a second for that many seconds, then the accounts."""
        self._fake = fake
        storage = _storage(self._server.url)
        if hasattr(storage, "create_tables"):
            storage.create_tables()
        given: Any = {
            "client_id": fake.client_id,
            "client_secret": fake.client_secret,
            "redirect_uri": "http://localhost/finch/callback",
            "products": ["company"],
            "storage": storage,
            "key": new_key("k1"),
            "spool": spool,
            "api_url": fake.api_url,
            "connect_origin": fake.connect_origin,
            "on_event": self._events.append,
        }
        self._finch = FinchConnect(**given)
        self._later = FinchConnect(**given, clock=lambda: datetime.now(UTC) + LATER)
        people = [self._person(number) for number in range(int(seconds * rate))]
        # Slow enough for the database to go away between a claim and its end.
        fake.script("token", Behaviour.delay(0.3), times=None)
        began = time.monotonic()
        for number, person in enumerate(people):
            heapq.heappush(self._due, (began + number / rate, number, person))
        self._serving = threading.Thread(
            target=self._serve, args=(began + seconds + _PATIENCE_SECONDS,)
        )
        self._serving.start()
        # In this thread: a server ends with the thread that has started it.
        self._trouble(until=began + seconds)
        self._serving.join()
        self._account()

    def _person(self, number: int) -> Person:
        begun = self._finch.begin(customer_id=f"c-{number}", customer_name="Acme")
        cookie = begun.headers["Set-Cookie"].partition(";")[0]
        query = self._fake.allow(begun.headers["Location"]).partition("?")[2]
        return Person(CallbackRequest(query_string=query, headers={"Cookie": cookie}))

    def _trouble(self, *, until: float) -> None:
        """Stop and start the database at random until then; it is up in the end."""
        while not self.figures.downs or time.monotonic() < until - 3:
            time.sleep(self._random.uniform(1, 4))
            self._server.stop()
            down = datetime.now(UTC)
            time.sleep(self._random.uniform(0.5, 4))
            up = datetime.now(UTC)
            self._server.start()
            self._await_success(since=time.monotonic())
            self.figures.downs.append((down, up))

    def _await_success(self, *, since: float) -> None:
        while not (self._successes and self._successes[-1] > since):
            if not self._serving.is_alive():
                return  # everybody was connected before
            time.sleep(0.01)
        first = min(each for each in self._successes if each > since) - since
        self.figures.first_success_seconds.append(first)

    def _serve(self, until: float) -> None:
        """Let everybody in who is due, until nobody is left."""
        under_way: set[Future[None]] = set()
        with ThreadPoolExecutor(_THREADS) as pool:
            while time.monotonic() < until and (self._due or under_way):
                under_way = {each for each in under_way if not each.done()}
                with self._lock:
                    soon = self._due and self._due[0][0] <= time.monotonic()
                    due = heapq.heappop(self._due) if soon else None
                if due is None:
                    time.sleep(0.005)
                else:
                    under_way.add(pool.submit(self._visited, due[1], due[2]))

    def _visited(self, number: int, person: Person) -> None:
        try:
            outcome = person.visit(self._finch)
        except Exception as error:  # anything but an Outcome is a fault, and is counted
            self.figures.faults.append(f"{type(error).__name__} escaped")
            return
        with self._lock:
            if not isinstance(outcome, get_args(Outcome)):
                self.figures.faults.append(f"a {type(outcome).__name__} is no outcome")
            self.figures.answers[_word(outcome)] += 1
            if isinstance(outcome, Connected):
                self._successes.append(time.monotonic())
            if _reload_helps(outcome):
                heapq.heappush(self._due, (time.monotonic() + _RELOAD_SECONDS, number, person))

    def _account(self) -> None:
        for _ in range(3):
            self._later.recovery.sweep()
        for issued in self._fake.ledger.codes:
            self.figures.ends[self._end_of(issued)] += 1
        if self._due:
            self.figures.faults.append(f"{len(self._due)} people still wait")
        asked = {
            json.loads(each.body)["code"]: each.at
            for each in self._fake.ledger.requests
            if each.endpoint == "token"
        }
        for issued in self._fake.ledger.codes:
            attempt = self._finch.storage.attempt(self._code_key(issued))
            # One that was claimed before may be presented while it is down.
            if attempt is not None and any(
                down < attempt.claimed_at and asked.get(issued.code, up) < up
                for down, up in self.figures.downs
            ):
                self.figures.faults.append("a code was presented while it was down")

    def _end_of(self, issued: IssuedCode) -> str:
        attempt = self._finch.storage.attempt(self._code_key(issued))
        if issued.presented > 1:
            self.figures.faults.append(f"a code was presented {issued.presented} times")
        if issued.presented and attempt is None:
            self.figures.faults.append("a code was presented without a claim that lasts")
        if not issued.minted:
            return "unspent"
        found = self._finch.connections.for_customer(issued.customer_id)
        if attempt is not None and attempt.state is AttemptState.STORED:
            if [each.access_token.reveal() for each in found] == list(issued.minted):
                return "stored"
        elif attempt is not None and any(
            each.name in ("finch.attempt.interrupted", "finch.exchange.ambiguous")
            and each.reference == attempt.reference
            for each in self._events
        ):
            return "reported"
        self.figures.faults.append("a token was lost")
        return "lost"

    def _code_key(self, issued: IssuedCode) -> bytes:
        secret = Secret(self._fake.client_secret)
        return KeyedHash(client_id=self._fake.client_id, client_secret=secret)("code", issued.code)


def _storage(url: str) -> Any:
    if not url.startswith("unix:"):
        return open_storage(url)
    from finch_middleware.storage.redis.storage import RedisStorage

    return RedisStorage(url)


def _word(outcome: Outcome) -> str:
    if not isinstance(outcome, get_args(Outcome)):
        return "no outcome"
    if isinstance(outcome, Repeated):
        return f"repeated {_word(outcome.first)}"
    detail = getattr(outcome, "reason", None)
    spooled = " (spooled)" if isinstance(outcome, Finishing) and outcome.spooled else ""
    name = type(outcome).__name__.lower()
    return f"{name} ({detail})" if detail else name + spooled


def _reload_helps(outcome: Outcome) -> bool:
    return isinstance(outcome, (Failed, Finishing)) and outcome.retry is Retry.RELOAD


def measured(name: str, *, seconds: float, rate: float, seed: int = 1) -> Figures:
    """The figures of one run on a private server of that kind."""
    with (
        _SERVED[name]() as server,
        FakeFinch() as fake,
        tempfile.TemporaryDirectory(prefix="finch-load-") as folder,
    ):
        server.goodbye = GOODBYES[name]
        load = Load(server, seed=seed)
        load.run(fake, spool=f"{folder}/spool", seconds=seconds, rate=rate)
    return load.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--storage", choices=sorted(GOODBYES), default="postgresql")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20, help="new callbacks a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    figures = measured(given.storage, seconds=given.seconds, rate=given.rate, seed=given.seed)
    print("\n".join(figures.lines()))
    raise SystemExit(bool(figures.faults) or figures.late)


if __name__ == "__main__":
    main()
