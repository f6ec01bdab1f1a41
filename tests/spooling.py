"""What the tests of the spool share: its entries, its folder, its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.spool import Spool
from finch_middleware.testing.sample_records import NOON, an_attempt
from tests.faulty_storage import FaultyStorage

OURS = an_attempt().client_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder)


def stored(code: str = "code", **changes: Any) -> Attempt:
    return an_attempt(code).settled(AttemptState.STORED, at=NOON, connection_id="c-1", **changes)


def down_after(good: int) -> FaultyStorage:
    """A storage that takes *good* settled attempts and is then down."""
    storage = FaultyStorage(MemoryStorage())
    for _ in range(good):
        storage.before("settle", lambda: None)
    storage.down("settle")
    return storage


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def reported(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The name and file of each report, which its line and its fields say alike."""
    reports = [(each.finch["name"], each.finch["file"]) for each in caplog.records]  # type: ignore[attr-defined]  # our own
    lines = [each.getMessage() for each in caplog.records]
    assert lines == [f"{name} file={file!r}" for name, file in reports]
    return reports
