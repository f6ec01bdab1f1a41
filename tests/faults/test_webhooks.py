"""A worker that is killed while it receives an event: Finch repeats it, and nothing is missing."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import FinchConnect, WebhookEvent
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.sample_records import a_connection
from tests.delivering import REAUTH, RECEIVING, delivery
from tests.faulty_storage import FaultyStorage
from tests.processes import forked, status_of
from tests.threats.desk import component

pytestmark = pytest.mark.full


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_the_status(storage: FaultyStorage) -> None:
    storage.before("swap", _die)


def _before_the_event(storage: FaultyStorage) -> None:
    storage.after("swap", _die)


def _before_the_hook(storage: FaultyStorage) -> None:
    storage.after("record", _die)


def _before_the_answer(storage: FaultyStorage) -> None:
    storage.after("mark_delivered", _die)


def _in_the_hook(storage: FaultyStorage) -> None:
    """`Worker` kills itself there."""


class Worker:
    """A component on the database of *folder*, whose hook writes the event's id to a file."""

    def __init__(self, fake: FakeFinch, folder: Path, *, in_hook: Callable[[], None] = int) -> None:
        self.storage = FaultyStorage(SQLAlchemyStorage(f"sqlite:///{folder}/finch.db"))
        self._noted, self._in_hook = folder / "noted", in_hook
        options: Any = {**RECEIVING, "storage": self.storage, "spool": folder / "spool"}
        self.finch: FinchConnect = component(fake, **options, on_webhook=self._note)

    def _note(self, event: WebhookEvent) -> None:
        with self._noted.open("a") as file:
            file.write(f"{event.event_id}\n")
        self._in_hook()

    def noted(self) -> list[str]:
        return self._noted.read_text().split() if self._noted.exists() else []


@pytest.mark.parametrize(
    ("place", "calls"),
    [(_before_the_status, 1), (_before_the_event, 1), (_before_the_hook, 1), (_in_the_hook, 2),
     (_before_the_answer, 1)],
)  # fmt: skip
def test_t51_an_event_survives_the_worker_that_is_killed_with_it(
    fake: FakeFinch, tmp_path: Path, place: Callable[[FaultyStorage], None], calls: int
) -> None:
    connection = a_connection(client_id=fake.client_id)
    first = Worker(fake, tmp_path)
    first.storage.swap(None, connection)
    repeated = delivery()

    def receive() -> None:
        killed = Worker(fake, tmp_path, in_hook=_die if place is _in_the_hook else int)
        place(killed.storage)
        killed.finch.webhook(repeated)

    ended = status_of(forked(receive))
    answer = Worker(fake, tmp_path).finch.webhook(repeated)

    assert (ended, answer.status_code) == (-signal.SIGKILL, 200)
    assert first.noted() == [repeated["HTTP_FINCH_EVENT_ID"]] * calls
    row = first.storage.get("connection")
    assert row is not None
    assert row.status == "reauth"


def test_t49_events_that_race_in_four_processes_end_in_one_state(
    fake: FakeFinch, tmp_path: Path
) -> None:
    first = Worker(fake, tmp_path)
    first.storage.swap(None, a_connection(client_id=fake.client_id))
    words = ["pending", "processing", "connected", "reauth"]
    began = datetime.now(UTC)
    deliveries = [
        delivery({**REAUTH, "data": {"status": word}}, at=began + timedelta(seconds=number))
        for number, word in enumerate(words)
    ]
    may_go, go = os.pipe()

    def receive(environ: dict[str, Any]) -> None:
        finch = Worker(fake, tmp_path).finch
        os.close(go)
        os.read(may_go, 1)  # ends for all of them at once
        assert finch.webhook(environ).status_code == 200

    children = [forked(functools.partial(receive, each)) for each in deliveries]
    os.close(go)

    assert [status_of(child) for child in children] == [0] * 4
    row = first.storage.get("connection")
    assert row is not None
    assert row.status == "reauth"
    assert len(first.noted()) == 4
