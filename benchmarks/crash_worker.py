"""
The worker that dies in `benchmarks.crash_campaign`, and the process that forks it.

It is told what to do by lines of JSON: first its configuration, then an order a worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from finch_middleware import CallbackRequest, Event, FinchConnect, exchange
from finch_middleware.crypto.keys import Key
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import StorageUnavailable
from finch_middleware.secret import Secret
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.sql.dialects.sqlite import SQLite

#: By whose clock the sweep of the scenario "swept" runs.
SWEPT_LATER = timedelta(minutes=5)


def away_after_claim(url: str) -> Any:
    """A storage that takes claims, and is away whenever one is to be settled."""
    storage: Any = open_storage(url)

    def away(*_: object) -> None:
        raise StorageUnavailable("unavailable")

    storage.settle = away
    return storage


def component(given: dict[str, str], **more: Any) -> FinchConnect:
    """A FinchConnect as every process of the campaign has it."""
    return FinchConnect(
        client_id=given["client_id"],
        client_secret=given["client_secret"],
        redirect_uri="http://localhost/finch/callback",
        products=["company"],
        key=given["key"],
        api_url=given["api_url"],
        connect_origin=given["api_url"],
        spool=given["spool"],
        **{"storage": given["storage"], "on_connected": _noting(given["notified"]), **more},
    )


def vault_of(given: dict[str, str]) -> Vault:
    """As an operator opens what is in quarantine."""
    key_id, _, material = given["key"].partition(":")
    return Vault(client_id=given["client_id"], key=Key(key_id=key_id, material=Secret(material)))


def _noting(path: str) -> Callable[[Any], None]:
    """An `on_connected` that leaves the attempt's id in a file."""

    def note(connection: Any) -> None:
        with open(path, "a", encoding="ascii") as file:
            file.write(f"{connection.attempt_id}\n")

    return note


def main() -> None:
    """Fork a worker for each line of the standard input; it waits at its gate, and goes."""
    given = json.loads(sys.stdin.readline())
    logging.disable(logging.CRITICAL)
    if given["scenario"] == "unsynced":
        _forget_to_sync()
    away = given["scenario"] == "spooled"
    storage: Any = away_after_claim(given["storage"]) if away else given["storage"]
    finch = component(given, storage=storage)
    sweeper = component(
        given,
        clock=lambda: datetime.now(UTC) + SWEPT_LATER,
        on_event=_noting_reports(given["reports"]),
    )
    finch.callback(CallbackRequest())  # loads what is loaded at first use
    with no_pauses():
        _fork_workers(finch, sweeper, given["scenario"])


def _forget_to_sync() -> None:
    """What SQLite confirms is not on the disk: the tests must notice."""
    opened = SQLite.opened

    def careless(self: SQLite, driver_connection: Any) -> None:
        opened(self, driver_connection)
        driver_connection.execute("PRAGMA synchronous=OFF")

    patched: Any = SQLite
    patched.opened, patched.volatile = careless, lambda self, connection, *, tables: None


def _noting_reports(path: str) -> Callable[[Event], None]:
    """An `on_event` that leaves the ids of interrupted attempts in a file."""

    def note(event: Event) -> None:
        if event.name == "finch.attempt.interrupted":
            with open(path, "a", encoding="ascii") as file:
                file.write(f"{event.attempt_id}\n")

    return note


def _fork_workers(finch: FinchConnect, sweeper: FinchConnect, scenario: str) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if scenario == "swept":
            _die_at_settling(finch, order)
        ready, done = os.pipe()
        worker = os.fork()
        if worker == 0:
            _go_on(finch, sweeper, order, scenario=scenario, ready=done)
        # Only what follows the checks is traced.
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
        print(worker, flush=True)
        _, status = os.waitpid(worker, 0)
        print("killed" if os.WIFSIGNALED(status) else "completed", flush=True)


def _go_on(
    finch: FinchConnect,
    sweeper: FinchConnect,
    order: dict[str, str],
    *,
    scenario: str,
    ready: int,
) -> None:
    finch.storage.check()
    sweeper.storage.check()
    os.close(ready)
    with open(order["gate"], encoding="ascii"):
        pass  # opens once the campaign has opened its other end
    # Nothing of ours handles this alarm: it ends the process as SIGKILL does, and on time.
    signal.setitimer(signal.ITIMER_REAL, float(order["dies_after"]))
    if scenario == "swept":
        sweeper.recovery.sweep()
    elif scenario == "drained":
        finch.recovery.drain()
    else:
        response = finch.callback(returning(order["query"], order["cookie"]))
        Path(order["answer"]).write_text(f"{response.status_code} {response.location or ''}")
    os._exit(0)


def _die_at_settling(finch: FinchConnect, order: dict[str, str]) -> None:
    """Leave an attempt behind: another worker dies with the token in its hand."""
    other = os.fork()
    if other == 0:
        storage: Any = finch.storage
        storage.settle = lambda *_: os._exit(0)
        finch.callback(returning(order["query"], order["cookie"]))
        os._exit(1)
    os.waitpid(other, 0)


def returning(query: str, cookie: str) -> CallbackRequest:
    headers = {"Cookie": cookie, "Sec-Fetch-Mode": "navigate"}
    return CallbackRequest(query_string=query, headers=headers)


@contextlib.contextmanager
def no_pauses() -> Iterator[None]:
    """A storage that is away is not asked three times over, a second long."""
    before, exchange.SETTLE_PAUSES = exchange.SETTLE_PAUSES, (0.0, 0.0, 0.0)
    yield
    exchange.SETTLE_PAUSES = before


if __name__ == "__main__":
    main()
