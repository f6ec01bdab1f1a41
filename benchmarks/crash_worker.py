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
from pathlib import Path
from typing import Any

from finch_middleware import CallbackRequest, FinchConnect, keeping
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import Attempt, StoredConnection
from finch_middleware.storage.sqlalchemy import SQLAlchemyStorage


class AwayAfterClaim(SQLAlchemyStorage):
    """A database that takes claims, and is away whenever one is to be settled."""

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        raise StorageUnavailable("unavailable")


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
    storage: Any = given["storage"]
    if given["scenario"] == "spooled":
        storage = AwayAfterClaim(storage)
    finch = component(given, storage=storage)
    finch.callback(CallbackRequest())  # loads what is loaded at first use
    with no_pauses():
        _fork_workers(finch, given["scenario"])


def _fork_workers(finch: FinchConnect, scenario: str) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        worker = os.fork()
        if worker == 0:
            _go_on(finch, order, drains=scenario == "drained")
        print(worker, flush=True)
        _, status = os.waitpid(worker, 0)
        print("killed" if os.WIFSIGNALED(status) else "completed", flush=True)


def _go_on(finch: FinchConnect, order: dict[str, str], *, drains: bool) -> None:
    finch.storage.check()
    with open(order["gate"], encoding="ascii"):
        pass  # opens once the campaign has opened its other end
    # Nothing of ours handles this alarm: it ends the process as SIGKILL does, and on time.
    signal.setitimer(signal.ITIMER_REAL, float(order["dies_after"]))
    if drains:
        finch.recovery.drain()
    else:
        response = finch.callback(returning(order["query"], order["cookie"]))
        Path(order["answer"]).write_text(f"{response.status_code} {response.location or ''}")
    os._exit(0)


def returning(query: str, cookie: str) -> CallbackRequest:
    headers = {"Cookie": cookie, "Sec-Fetch-Mode": "navigate"}
    return CallbackRequest(query_string=query, headers=headers)


@contextlib.contextmanager
def no_pauses() -> Iterator[None]:
    """A storage that is away is not asked three times over, a second long."""
    before, keeping.SETTLE_PAUSES = keeping.SETTLE_PAUSES, (0.0, 0.0, 0.0)
    yield
    keeping.SETTLE_PAUSES = before


if __name__ == "__main__":
    main()
