"""
Kill -9 in the middle of a callback, again and again: ``python -m benchmarks.crash_campaign``.

A worker is forked, stopped at a gate, and let go on a return from Finch. It dies at the n-th of
its system calls, for every n (``strace`` injects the signal), or at a random moment. Then the
person reloads and the sweep runs, eight minutes later by the clock, and Finch's own ledger is
held against what stands: minted = stored + spooled + quarantined + reported, no code was
presented twice, the database opens, and `on_connected` ran for every stored connection.

``--storage postgresql`` (mysql, redis) does it on a private server of that kind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.crash_tracing import let_go, tracing
from benchmarks.crash_worker import away_after_claim, component, no_pauses, returning, vault_of
from finch_middleware import Event, FinchConnect
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto.keys import new_key
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.secret import Secret
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch, IssuedCode
from tests.storage import servers

#: Behind every lease; and behind that of a sweep which itself ran late.
LATER = timedelta(minutes=8)
_PATIENCE_SECONDS = 240
# A line of strace's: the thread, and the call that it enters.
_CALL = re.compile(r"^\d+ +(?!exit|restart_)(\w+)\(", re.MULTILINE)

#: What the worker is at when it dies.
SCENARIOS = ("stored", "spooled", "quarantined", "drained", "swept")
STORAGES = {"postgresql": servers.postgresql, "mysql": servers.mysql, "redis": servers.redis}


@dataclass
class Figures:
    """What a campaign saw; `faults` says what was wrong, and is empty where all is well."""

    scenario: str
    runs: Counter[str] = field(default_factory=Counter)
    presented: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kept = ("stored", "spooled", "quarantined", "reported")
        minted = sum(self.ends[each] for each in kept)
        parts = " + ".join(f"{each} {self.ends[each]}" for each in kept)
        lost = self.ends["lost"]
        return (
            f"{self.scenario:<12} killed {self.runs['killed']}, not killed "
            f"{self.runs['completed']}; minted {minted + lost} = {parts}; "
            f"never minted {self.ends['unspent']}; lost {lost}; "
            f"other faults {len(self.faults) - lost}"
        )


class Campaign:
    """
    One scenario: a fake Finch, a database, a spool, and a process that forks workers.

    Attributes:
        folder: Where its files are; the SQLite is ``finch.db``.
    """

    def __init__(
        self, scenario: str, *, fake: FakeFinch, folder: Path, url: str | None = None
    ) -> None:
        self.figures = Figures(scenario)
        self.fake = self._fake = fake
        self.folder = self._folder = folder
        self._events: list[Event] = []
        self._number = 0
        given = {
            "scenario": scenario,
            "client_id": fake.client_id,
            "client_secret": fake.client_secret,
            "key": new_key("k1"),
            "api_url": fake.api_url,
            "spool": str(folder / "spool"),
            "storage": url or f"sqlite:///{folder}/finch.db",
            "notified": str(folder / "notified"),
            "reports": str(folder / "reports"),
        }
        self._given = given
        self._vault = vault_of(given)
        self._now = component(given, storage=away_after_claim(given["storage"]))
        self._later = component(
            given,
            clock=lambda: datetime.now(UTC) + LATER,
            on_event=self._events.append,
        )
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        (folder / "notified").touch()
        (folder / "reports").touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crash_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._tell(given)

    def close(self) -> None:
        """End the process that forks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE_SECONDS)
        self._process.stdout.close()
        for storage in (self._now.storage, self._later.storage):
            getattr(storage, "close", lambda: None)()

    def system_calls(self) -> list[tuple[str, int]]:
        """
        Those that a worker makes from its gate to its end, nobody killing it.

        Each with its name, and with its number among those of the name, which strace counts.
        """
        trace = self._folder / "trace"
        self._run(lambda pid: tracing(pid, "-o", str(trace)))
        seen: Counter[str] = Counter()
        calls = []
        for name in _CALL.findall(trace.read_text(errors="replace")):
            seen[name] += 1
            calls.append((name, seen[name]))
        return calls

    def seconds(self) -> float:
        """How long a worker takes from its gate to its end, nobody killing it."""
        took = []
        for _ in range(5):
            self._run(let_go)
            took.append(self._took)
        return sorted(took)[2]

    def kill_at(self, name: str, number: int) -> None:
        """Kill a worker as it enters its system call of that name, the *number*-th time."""
        inject = f"inject={name}:signal=KILL:when={number}"
        self._run(lambda pid: tracing(pid, "-e", inject, "-o", "/dev/null"))

    def answered(self, *injections: str, only: str | None = None) -> str:
        """
        Status and Location that a worker answers while system calls fail as strace is told.

        Those on the file *only*, where one of the folder is named; empty if it died of it.
        """
        options = [part for each in injections for part in ("-e", f"inject={each}")]
        if only is not None:
            options += ["-P", str(self._folder / only)]
        return self.accompanied(lambda pid: tracing(pid, *options, "-o", "/dev/null"))

    def accompanied(
        self, companion: Callable[[int], contextlib.AbstractContextManager[None]]
    ) -> str:
        """What a worker answers while *companion* is at its side."""
        self._run(companion)
        return (self._folder / "answer").read_text()

    def reopened(self, url: str) -> FinchConnect:
        """A component of the same configuration on another database."""
        return component({**self._given, "storage": url})

    def code_hash(self) -> bytes:
        """That of the code which the last worker was given."""
        return self._code_key(self._fake.ledger.codes[-1])

    @property
    def reports(self) -> int:
        """How many attempts were reported as interrupted so far."""
        return len(self._reports)

    @property
    def _reports(self) -> list[Event]:
        return [each for each in self._events if each.name == "finch.attempt.interrupted"]

    def kill_within(self, seconds: float, *, moments: random.Random) -> float:
        """Kill a worker at a random moment in that time; the time to take for the next one."""
        completed = self.figures.runs["completed"]
        self._run(let_go, dies_after=moments.uniform(0, seconds))
        # A machine that is less busy than before: the worker ended before its moment.
        return min(seconds, self._took) if self.figures.runs["completed"] > completed else seconds

    def _run(
        self,
        accompanied: Callable[[int], contextlib.AbstractContextManager[None]],
        *,
        dies_after: float = 0,
    ) -> None:
        self._number += 1
        query, cookie = self._return()
        if self.figures.scenario == "quarantined":
            self._fake.script("token", Behaviour.alter(customer_id="somebody-else"))
        if self.figures.scenario == "drained":
            with no_pauses():
                self._now.finish(returning(query, cookie))
        answer = self._folder / "answer"
        answer.write_text("")
        order = {"gate": str(self._gate), "query": query, "cookie": cookie, "answer": str(answer)}
        self._tell({**order, "dies_after": str(dies_after)})
        worker = int(self._told())
        with accompanied(worker):
            before = time.monotonic()
            # For reading too: a worker that died before it came here would never be met.
            gate = os.open(self._gate, os.O_RDWR)
            ended = self._told()
            self._took = time.monotonic() - before
            os.close(gate)
        self.figures.runs[ended] += 1
        self._fake.unscript()
        self._judge(query, cookie)

    def _return(self) -> tuple[str, str]:
        """A person's return: a code that Finch has just given out, and their browser's ticket."""
        begun = self._later.begin(customer_id=f"c-{self._number}", customer_name="Acme")
        cookie = begun.headers["Set-Cookie"].partition(";")[0]
        return self._fake.allow(begun.headers["Location"]).partition("?")[2], cookie

    def _judge(self, query: str, cookie: str) -> None:
        """Open the database, reload and sweep in turns, and account for the code."""
        issued = self._fake.ledger.codes[-1]
        spooled = any(self._folder.joinpath("spool").glob(f"{self._code_key(issued).hex()}*"))
        self._open_database()
        steps: list[Callable[[], object]] = [
            lambda: self._later.finish(returning(query, cookie)),
            self._later.recovery.sweep,
        ]
        for step in steps if self._number % 2 else reversed(steps):
            step()
        issued = self._fake.ledger.codes[-1]
        self.figures.presented += issued.presented
        if issued.presented > 1:
            self._fault(f"a code was presented {issued.presented} times")
        self.figures.ends[self._end_of(issued, spooled=spooled)] += 1

    def _end_of(self, issued: IssuedCode, *, spooled: bool) -> str:
        if not issued.minted:
            return "unspent"
        attempt = self._later.storage.attempt(self._code_key(issued))
        if attempt is not None and attempt.state is AttemptState.STORED:
            self._check_stored(attempt, issued)
            return "spooled" if spooled else "stored"
        if attempt is not None and attempt.state is AttemptState.QUARANTINED:
            self._check_quarantined(attempt, issued)
            return "quarantined"
        mine = [each for each in self._reports if attempt and each.attempt_id == attempt.attempt_id]
        if len(mine) == 1 and mine[0].customer_ids == (issued.customer_id,):
            return "reported"
        if not mine and attempt is not None and self._told_by_sweep(attempt):
            return "reported"
        self._fault(f"{len(mine)} reports of a token that nobody holds")
        return "lost"

    def _told_by_sweep(self, attempt: Attempt) -> bool:
        """Whether the worker's own sweep had reported it, before it was killed or ended."""
        return attempt.attempt_id in self._folder.joinpath("reports").read_text().split()

    def _check_quarantined(self, attempt: Attempt, issued: IssuedCode) -> None:
        answer = self._vault.open_grant(attempt)
        if json.loads(answer.reveal())["access_token"] not in issued.minted:
            self._fault("what is in quarantine is not what was minted")

    def _check_stored(self, attempt: Attempt, issued: IssuedCode) -> None:
        found = self._later.connections.get(issued.connection_id, customer_id=issued.customer_id)
        if found is None or found.access_token.reveal() not in issued.minted:
            self._fault("what is stored is not what was minted")
        notified = self._folder.joinpath("notified").read_text().split()
        if attempt.attempt_id not in notified:
            self._fault("on_connected did not run")

    def _open_database(self) -> None:
        self._later.storage.check()
        if not (self._folder / "finch.db").exists():
            return
        with contextlib.closing(sqlite3.connect(self._folder / "finch.db")) as database:
            [[word]] = database.execute("PRAGMA integrity_check").fetchall()
        if word != "ok":
            self._fault(f"the database says {word}")

    def _code_key(self, issued: IssuedCode) -> bytes:
        secret = Secret(self._fake.client_secret)
        return KeyedHash(client_id=self._fake.client_id, client_secret=secret)("code", issued.code)

    def _fault(self, text: str) -> None:
        self.figures.faults.append(f"run {self._number}: {text}")

    def _tell(self, order: dict[str, str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks the workers has died")
        return line.strip()


@contextlib.contextmanager
def running(scenario: str, *, url: str | None = None) -> Iterator[Campaign]:
    """A campaign in a folder of its own, on an SQLite there or on the database of *url*."""
    folder = Path(tempfile.mkdtemp(prefix="finch-crash-"))
    with FakeFinch() as fake:
        campaign = Campaign(scenario, fake=fake, folder=folder, url=url)
        try:
            yield campaign
        finally:
            campaign.close()
            shutil.rmtree(folder)


def at_every_call(scenario: str, *, step: int = 1, url: str | None = None) -> Figures:
    """Kill at every *step*-th system call."""
    with running(scenario, url=url) as campaign:
        for name, number in campaign.system_calls()[::step]:
            campaign.kill_at(name, number)
    return campaign.figures


def at_random(scenario: str, *, times: int, seed: int, url: str | None = None) -> Figures:
    """Kill *times* times at a random moment."""
    moments = random.Random(seed)
    with running(scenario, url=url) as campaign:
        seconds = campaign.seconds()
        for _ in range(times):
            seconds = campaign.kill_within(seconds, moments=moments)
    return campaign.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--step", type=int, default=1, help="kill at every n-th system call only")
    parser.add_argument("--random", type=int, default=2000, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--storage", choices=["sqlite", *STORAGES], default="sqlite")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    scenarios = given.scenario or SCENARIOS
    faults = 0
    with _storage(given.storage) as url:
        for each in scenarios:
            faults += _printed(at_every_call(each, step=given.step, url=url))
        for each in scenarios if given.random else ():
            times = given.random // len(scenarios)
            faults += _printed(at_random(each, times=times, seed=given.seed, url=url))
    raise SystemExit(bool(faults))


@contextlib.contextmanager
def _storage(name: str) -> Iterator[str | None]:
    """The URL of an empty database on a private server of that kind; None for SQLite."""
    if name == "sqlite":
        yield None
        return
    with STORAGES[name]() as server:
        if name != "redis":
            storage = SQLAlchemyStorage(server.url)
            storage.create_tables()
            storage.close()
        yield server.url


def _printed(figures: Figures) -> int:
    """Print what a campaign saw. How many faults it has."""
    print(figures, flush=True)
    for fault in figures.faults:
        print(f"  {fault}", flush=True)
    return len(figures.faults)


if __name__ == "__main__":
    main()
