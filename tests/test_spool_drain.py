"""How spooled entries reach the storage, and what must not stop that."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware.attempts import Attempt
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.spool import Entry, Spool
from finch_middleware.testing.sample_records import NOON, a_connection, key_of
from tests.faulty_storage import FaultyStorage
from tests.spooling import OURS, down_after, folder, names, reported, spool, stored

__all__ = ["folder", "spool"]


def refusing(code: str) -> FaultyStorage:
    """A storage that never takes the attempt of *code*."""

    def refuse(attempt: Attempt, connection: StoredConnection | None) -> None:
        if attempt.code_hash == key_of(code):
            raise StorageUnavailable("unstorable")

    storage = FaultyStorage(MemoryStorage())
    storage.always("settle", refuse)
    return storage


def test_an_entry_that_the_storage_never_takes_is_passed_over_in_passing(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FaultyStorage(MemoryStorage())
    storage.raises("settle", RuntimeError("a driver's own"), times=9)
    spool.put(stored(), a_connection())

    in_passing = [list(spool.drain(storage, client_id=OURS, limit=1)) for _ in range(3)]
    asked = len(storage.calls)
    by_an_operator = list(spool.drain(storage, client_id=OURS))

    assert (in_passing, by_an_operator) == ([[], [], []], [])
    assert (asked, len(storage.calls)) == (1, 2)
    assert len(caplog.records) == 1
    assert len(names(folder)) == 1


def test_an_entry_that_the_database_cannot_hold_does_not_stop_the_others(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = refusing("bad")
    spool.put(stored("bad"), a_connection())
    spool.put(stored("good"), a_connection())

    drained = list(spool.drain(storage, client_id=OURS))

    assert [entry.attempt.code_hash for entry in drained] == [key_of("good")]
    assert ["finch.spool.unstorable" in r.getMessage() for r in caplog.records] == [True]
    assert len(names(folder)) == 1


def test_in_passing_an_entry_that_was_refused_before_lets_the_next_one_by(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted(["one", "two"], key=key_of)
    storage = refusing(first)
    spool.put(stored(first), a_connection())
    assert list(spool.drain(storage, client_id=OURS, limit=1)) == []
    spool.put(stored(second), a_connection())

    [drained] = spool.drain(storage, client_id=OURS, limit=1)

    assert drained.attempt.code_hash == key_of(second)
    assert reported(caplog) == [("finch.spool.unstorable", f"{key_of(first).hex()}.json")]


def test_an_entry_that_another_process_removed_meanwhile_is_reported_by_that_one(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FaultyStorage(MemoryStorage())
    other = Spool(folder)
    theirs: list[Entry] = []
    storage.before("settle", lambda: theirs.extend(other.drain(storage, client_id=OURS)))
    spool.put(stored(), a_connection())

    ours = list(spool.drain(storage, client_id=OURS))

    assert (len(theirs), ours) == (1, [])
    assert reported(caplog) == []


def test_an_entry_whose_file_cannot_be_removed_is_reported_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted(["one", "two"], key=key_of)
    spool.put(stored(first), a_connection())

    def refused(path: str) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        drained = [each for _ in "ab" for each in spool.drain(MemoryStorage(), client_id=OURS)]
    spool.put(stored(second), None)

    in_passing = list(spool.drain(MemoryStorage(), client_id=OURS, limit=1))

    assert len(drained) == 1
    assert reported(caplog) == [("finch.spool.not_removed", f"{key_of(first).hex()}.json")]
    assert [entry.attempt for entry in in_passing] == [stored(second)]


def test_a_schema_that_does_not_fit_is_the_storages_fault_and_not_the_entrys(
    spool: Spool, folder: Path
) -> None:
    storage = FaultyStorage(MemoryStorage())
    storage.raises("settle", SchemaMismatch("old"))
    spool.put(stored(), a_connection())

    with pytest.raises(SchemaMismatch):
        list(spool.drain(storage, client_id=OURS))

    assert len(names(folder)) == 1


def test_an_entry_of_a_later_version_is_left_where_it_is(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool.put(stored(), a_connection())
    (file,) = folder.iterdir()
    file.write_text(file.read_text().replace("stored", "of tomorrow"))

    waiting = list(spool.entries())

    assert waiting == []
    assert ["finch.spool.unreadable" in r.getMessage() for r in caplog.records] == [True]
    assert file.exists()


def test_draining_stores_every_entry_once(spool: Spool, folder: Path) -> None:
    storage = MemoryStorage()
    for number in range(3):
        spool.put(stored(str(number)), a_connection(f"c-{number}"))

    first, second = (
        list(spool.drain(storage, client_id=OURS)),
        list(spool.drain(storage, client_id=OURS)),
    )

    assert {entry.attempt.attempt_id for entry in first} == {f"attempt-{n}" for n in range(3)}
    assert second == []
    assert names(folder) == []
    assert all(storage.get(f"c-{number}") == a_connection(f"c-{number}") for number in range(3))
    assert storage.attempt(key_of("1")) == stored("1")


def test_draining_takes_no_more_than_its_limit(spool: Spool, folder: Path) -> None:
    for number in range(3):
        spool.put(stored(str(number)), a_connection(f"c-{number}"))

    drained = list(spool.drain(MemoryStorage(), client_id=OURS, limit=2))

    assert len(drained) == 2
    assert len(names(folder)) == 1


def test_an_entry_that_was_settled_but_not_removed_changes_nothing_more(spool: Spool) -> None:
    storage = MemoryStorage()
    entry = Entry(attempt=stored(), connection=a_connection())
    storage.settle(entry.attempt, entry.connection)
    spool.put(entry.attempt, entry.connection)

    drained = list(spool.drain(storage, client_id=OURS))

    assert drained == [entry]
    assert storage.get("connection") == a_connection()


def test_a_newer_token_is_never_replaced_by_a_spooled_one(spool: Spool) -> None:
    storage = MemoryStorage()
    newer = a_connection("c-1", obtained_at=NOON + timedelta(seconds=1), attempt_id="later")
    storage.settle(stored("later"), newer)
    spool.put(stored(), a_connection("c-1"))

    drained = list(spool.drain(storage, client_id=OURS))

    assert len(drained) == 1
    assert storage.get("c-1") == newer
    assert storage.attempt(key_of("code")) == stored()


def test_what_the_storage_does_not_take_stays_in_the_spool(spool: Spool, folder: Path) -> None:
    for number in range(3):
        spool.put(stored(str(number)), a_connection(f"c-{number}"))

    with pytest.raises(StorageUnavailable):
        list(spool.drain(down_after(1), client_id=OURS))

    assert len(names(folder)) == 2


CORRUPT = {
    "empty": b"",
    "cut": None,
    "not JSON": b"{",
    "a list": b"[]",
    "a number": b"5",
    "a text": b'"x"',
    "an empty object": b"{}",
    "no connection": b'{"attempt": "{}"}',
    "an attempt that is no text": b'{"attempt": 5, "connection": null}',
    "an attempt that is no object": b'{"attempt": "[]", "connection": null}',
    "an attempt without columns": b'{"attempt": "{}", "connection": null}',
    "binary": bytes(range(256)),
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_file_is_kept_and_reported_once_and_stops_no_other(
    spool: Spool, folder: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    spool.put(stored("whole"), a_connection("c-1"))
    spool.put(stored("spoilt"), a_connection("c-2"))
    spoilt = folder / f"{key_of('spoilt').hex()}.json"
    content = spoilt.read_bytes()[:-20] if content is None else content
    spoilt.write_bytes(content)

    entry = spool.entry(key_of("spoilt"))
    drained = [each for _ in range(3) for each in spool.drain(MemoryStorage(), client_id=OURS)]

    assert entry is None
    assert [each.attempt for each in drained] == [stored("whole")]
    assert names(folder) == [spoilt.name]
    assert spoilt.read_bytes() == content
    assert reported(caplog) == [("finch.spool.unreadable", spoilt.name)]
    assert caplog.records[0].levelno == logging.ERROR


def test_a_file_under_the_name_of_another_code_is_not_drained(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool.put(stored(), a_connection())
    (file,) = folder.iterdir()
    moved = file.rename(folder / f"{key_of('other').hex()}.json")

    drained = list(spool.drain(MemoryStorage(), client_id=OURS))

    assert drained == []
    assert moved.exists()
    assert reported(caplog) == [("finch.spool.unreadable", moved.name)]
