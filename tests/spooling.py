"""What the tests of the spool share: its entries, its folder, its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.sample_records import NOON, an_attempt

OURS = an_attempt().client_id


def stored(code: str = "code", **changes: Any) -> Attempt:
    return an_attempt(code).settled(AttemptState.STORED, at=NOON, connection_id="c-1", **changes)


class AwayStorage(MemoryStorage):
    """A storage that takes *good* writes and is away then."""

    def __init__(self, good: int = 0) -> None:
        super().__init__()
        self.good = good

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        if self.good == 0:
            raise StorageUnavailable
        self.good -= 1
        return super().settle(attempt, connection)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The name and file of each report, which its line and its fields say alike."""
    reports = [(each.finch["name"], each.finch["file"]) for each in caplog.records]  # type: ignore[attr-defined]  # our own
    lines = [each.getMessage() for each in caplog.records]
    assert lines == [f"{name} file={file!r}" for name, file in reports]
    return reports
