"""How an entry is written to the disk, and when that is refused."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware.errors import SpoolUnavailable
from finch_middleware.records import StoredConnection
from finch_middleware.storage.spool import Entry, Spool
from finch_middleware.testing.sample_records import a_connection, key_of
from tests.spooling import OURS, down_after, folder, names, spool, stored

__all__ = ["folder", "spool"]


@pytest.mark.parametrize("connection", [a_connection("c-1"), None], ids=["with", "without"])
def test_an_entry_comes_back_as_it_was_put(
    spool: Spool, connection: StoredConnection | None
) -> None:
    attempt = stored()

    spool.put(attempt, connection)

    assert spool.entry(attempt.code_hash) == Entry(attempt=attempt, connection=connection)
    assert list(spool.entries()) == [Entry(attempt=attempt, connection=connection)]
    assert spool.entry(key_of("another")) is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_the_folder_and_its_files(
    spool: Spool, folder: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        spool.put(stored(), a_connection())
    finally:
        os.umask(before)

    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of the disk, in order: what was opened, synced and renamed."""
    made: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        made.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        made.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return made


def test_an_entry_is_on_disk_before_it_has_its_name_and_then_so_is_the_name(
    spool: Spool, folder: Path, calls: list[tuple[str, str]]
) -> None:
    attempt = stored()

    spool.put(attempt, a_connection())

    name = f"{attempt.code_hash.hex()}.json"
    assert calls == [
        ("fsync", str(folder.parent)),
        ("fsync", str(folder / f".{name}.part")),
        ("replace", str(folder / name)),
        ("fsync", str(folder)),
    ]
    assert names(folder) == [name]


def test_the_file_is_complete_when_it_is_synced(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    spool.prove()
    sizes.clear()

    spool.put(stored(), a_connection())

    (file,) = folder.iterdir()
    assert sizes[0] == file.stat().st_size > 0


def test_a_spooled_file_holds_ciphertext_and_hashes_only(spool: Spool, folder: Path) -> None:
    spool.put(stored(), a_connection())

    text = next(folder.iterdir()).read_text()
    assert a_connection().sealed.text in text
    assert text.isascii()


def test_a_file_of_another_program_is_left_alone(spool: Spool, folder: Path) -> None:
    spool.put(stored(), None)
    (folder / "notes").write_text("0")

    assert list(spool.entries()) == [Entry(attempt=stored(), connection=None)]
    assert "notes" in names(folder)


def test_a_folder_that_another_process_makes_at_the_same_moment_is_taken(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = os.path.isdir, iter([False])  # as it was a moment ago

    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os.path, "isdir", lambda path: next(looks, real(path)))

    spool.put(stored(), None)

    assert names(folder) == [f"{key_of('code').hex()}.json"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_may_write_is_refused(spool: Spool, folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)

    with pytest.raises(SpoolUnavailable) as refused:
        spool.prove()

    assert (
        str(refused.value) == "other users can write to the spool's folder: use chmod 700 or chown"
    )
    assert refused.value.reason == "not_private"
    assert names(folder) == []


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_a_folder_that_others_may_only_read_is_taken(spool: Spool, folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)

    spool.prove()

    assert names(folder) == []


@pytest.mark.parametrize(("user", "taken"), [(12345, False), (0, True)], ids=["other", "root"])
def test_a_folder_of_another_user_is_taken_by_root_alone(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch, user: int, taken: bool
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    refused = contextlib.nullcontext() if taken else pytest.raises(SpoolUnavailable, match="chown")
    found = SimpleNamespace(st_dev=1, st_ino=2, st_uid=54321, st_mode=0o40700)

    with monkeypatch.context() as patched, refused:
        patched.setattr(os, "stat", lambda _: found)
        spool.prove()


def test_a_file_that_another_process_has_drained_meanwhile_is_no_fault(
    spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        spool.put(stored(str(number)), None)
    entries = spool.entries()
    next(entries)
    for path in folder.iterdir():
        path.unlink()

    assert list(entries) == []
    assert caplog.records == []


def unwritable(call: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, failing)


def refusals(spool: Spool) -> list[str]:
    """What `prove` and `put` say."""
    said = []
    for write in (spool.prove, lambda: spool.put(stored(), a_connection())):
        with pytest.raises(SpoolUnavailable) as fault:
            write()
        assert fault.value.__context__ is None
        said.append(str(fault.value))
    return said


def test_a_folder_that_cannot_be_made_is_unavailable(spool: Spool, folder: Path) -> None:
    folder.parent.write_text("a file where the folder should be")

    assert all("Not a directory" in each or "File exists" in each for each in refusals(spool))
    assert Spool(folder).entry(key_of("code")) is None
    assert list(Spool(folder).entries()) == []


@pytest.mark.parametrize(
    "number", [13, 28, 30, 5, 24], ids=["EACCES", "ENOSPC", "EROFS", "EIO", "EMFILE"]
)
def test_a_folder_that_cannot_be_written_is_unavailable(
    number: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable("open", number, monkeypatch)

    assert all(os.strerror(number) in each for each in refusals(spool))


def test_a_full_disk_is_unavailable_before_anybody_is_sent_to_finch(
    folder: Path, spool: Spool
) -> None:
    folder.mkdir(parents=True)
    genuine = os.open

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        return genuine("/dev/full", os.O_WRONLY)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(SpoolUnavailable, match="No space left"):
            spool.prove()

    assert names(folder) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_is_not_durable_is_not_taken_and_leaves_no_half_file(
    call: str, spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.prove()
    unwritable(call, 5, monkeypatch)

    with pytest.raises(SpoolUnavailable) as refused:
        spool.put(stored(), a_connection())

    assert refused.value.reason == "unwritable"
    assert names(folder) == []


def test_without_a_folder_nothing_is_taken_and_nothing_waits() -> None:
    spool = Spool(None)

    spool.prove()
    with pytest.raises(SpoolUnavailable) as refused:
        spool.put(stored(), None)

    assert (str(refused.value), refused.value.reason) == ("there is no spool", "none")
    assert spool.entry(key_of("code")) is None
    assert list(spool.entries()) == []
    assert list(spool.drain(down_after(0), client_id=OURS)) == []


@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_a_folder_that_may_not_be_read_has_no_entries(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool.put(stored(), None)

    def refused(*given: Any, **named: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, call, refused)

    assert list(spool.entries()) == []
