"""Several processes that drain one spool, and processes that were killed while they wrote to it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.errors import SpoolUnavailable
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.spool import Entry, Spool
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import a_connection, key_of
from tests.processes import forked, status_of, succeeds
from tests.spooling import OURS, names, reported, stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder)


@pytest.mark.full
def test_t41_each_entry_is_reported_by_one_of_many_processes(spool: Spool, folder: Path) -> None:
    database, entries = f"sqlite:///{folder.parent}/finch.db", 12
    for number in range(entries):
        spool.put(stored(str(number)), a_connection(f"c-{number}"))
    SQLAlchemyStorage(database).check()
    reads, writes = os.pipe()

    def drain() -> None:
        for entry in Spool(folder).drain(SQLAlchemyStorage(database), client_id=OURS):
            os.write(writes, entry.attempt.code_hash)

    children = [forked(drain) for _ in range(4)]

    assert [succeeds(each) for each in children] == [True] * 4
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        reported = pipe.read()
    hashes = sorted(reported[i : i + 32] for i in range(0, len(reported), 32))
    assert hashes == sorted(key_of(str(number)) for number in range(entries))
    assert names(folder) == []


def test_t41_an_entry_whose_writer_was_killed_before_it_had_its_name_is_drained(
    spool: Spool, folder: Path
) -> None:
    def put_and_end() -> None:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]  # in the child
        spool.put(stored(), a_connection())

    spool.prove()
    status = status_of(forked(put_and_end))
    left = names(folder)
    waiting = spool.entry(key_of("code"))
    storage = MemoryStorage()

    drained = list(spool.drain(storage, client_id=OURS, limit=1))

    assert status == -signal.SIGKILL
    assert left == [f".{key_of('code').hex()}.json.part"]
    assert waiting == Entry(attempt=stored(), connection=a_connection())
    assert drained == [waiting]
    assert storage.get("connection") == a_connection()
    assert names(folder) == []


def test_an_entry_that_is_drained_before_it_has_its_name_was_put(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, drained, replace = MemoryStorage(), list[Entry](), os.replace

    def late(part: Path, name: Path) -> None:
        drained.extend(Spool(folder).drain(storage, client_id=OURS))
        replace(part, name)

    monkeypatch.setattr(os, "replace", late)

    spool.put(stored(), a_connection())

    assert len(drained) == 1
    assert storage.get("connection") == a_connection()
    assert names(folder) == []


def test_an_entry_whose_folder_is_gone_before_it_has_its_name_was_not_put(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def late(part: Path, name: Path) -> None:
        shutil.rmtree(folder)
        replace(part, name)

    monkeypatch.setattr(os, "replace", late)

    with pytest.raises(SpoolUnavailable):
        spool.put(stored(), a_connection())


@pytest.mark.parametrize("old", [False, True])
def test_half_an_entry_is_reported_once_no_process_can_be_writing_it(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture, old: bool
) -> None:
    spool.prove()
    half = folder / f".{key_of('code').hex()}.json.part"
    half.write_text("half")
    if old:
        os.utime(half, (0, 0))

    waiting = [*spool.entries(), *spool.entries(), spool.entry(key_of("code"))]

    assert waiting == [None]
    assert reported(caplog) == ([("finch.spool.unreadable", half.name)] if old else [])
    assert names(folder) == [half.name]
    spool.put(stored(), None)
    assert spool.entry(key_of("code")) == Entry(attempt=stored(), connection=None)
    assert len(names(folder)) == 1


def test_half_an_entry_that_is_gone_meanwhile_is_no_fault(
    spool: Spool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool.prove()
    (folder / f".{key_of('code').hex()}.json.part").write_text("half")

    real, asked = os.stat, []

    def gone(path: Any, **named: Any) -> os.stat_result:
        if not str(path).endswith(".part"):
            return real(path, **named)
        asked.append(path)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "stat", gone)

    assert list(spool.entries()) == []
    assert len(asked) == 1
    assert reported(caplog) == []
