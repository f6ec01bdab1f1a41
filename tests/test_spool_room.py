"""The room on the disk that each thread keeps for an entry, and gives back when it writes one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.errors import SpoolUnavailable
from finch_middleware.storage.spool import Spool
from finch_middleware.testing.sample_records import a_connection, key_of
from tests.processes import forked, open_files, succeeds
from tests.spooling import folder, names, spool, stored

__all__ = ["folder", "spool"]


def kept(folder: Path) -> list[int]:
    """The bytes of each file without a name that this process has open there."""
    return [os.fstat(each).st_size for each in open_files(folder)]


def test_many_proofs_of_a_thread_keep_the_room_of_one_entry(spool: Spool, folder: Path) -> None:
    for _ in range(3):
        spool.prove()

    assert (kept(folder), names(folder)) == ([4096], [])


def test_the_room_holds_the_largest_entry(spool: Spool, folder: Path) -> None:
    spool.prove()
    [room] = open_files(folder)

    assert os.fstat(room).st_blocks * 512 >= 4096


def test_each_thread_keeps_its_own_room_until_it_ends(spool: Spool, folder: Path) -> None:
    spool.prove()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(spool.prove).result()
        during = kept(folder)

    assert (during, kept(folder)) == ([4096, 4096], [4096])


def test_an_entry_takes_the_room_of_its_thread_and_the_next_proof_needs_new_room(
    spool: Spool, folder: Path
) -> None:
    spool.prove()

    spool.put(stored(), a_connection())

    assert kept(folder) == []
    spool.prove()
    assert kept(folder) == [4096]


def test_the_room_is_free_although_a_forked_child_has_the_file_open(
    spool: Spool, folder: Path
) -> None:
    spool.prove()
    of_child = os.dup(*open_files(folder))

    spool.put(stored(), a_connection())

    assert os.fstat(of_child).st_size == 0
    os.close(of_child)


@pytest.mark.parametrize(
    "use",
    [Spool.prove, lambda spool: spool.put(stored(), a_connection())],
    ids=["prove", "put"],
)
def test_t29_a_forked_child_does_not_give_back_the_room_of_its_parent(
    spool: Spool, folder: Path, use: Callable[[Spool], None]
) -> None:
    spool.prove()

    def use_it() -> bool:
        use(spool)
        return len(open_files(folder)) == (1 if use is Spool.prove else 0)

    assert succeeds(forked(use_it))
    assert kept(folder) == [4096]


def test_what_is_no_file_any_more_does_not_prevent_an_entry(spool: Spool, folder: Path) -> None:
    spool.prove()
    [room] = open_files(folder)
    pipe = os.pipe()
    os.dup2(pipe[0], room)

    spool.put(stored(), a_connection())

    assert names(folder) == [f"{key_of('code').hex()}.json"]
    os.close(pipe[0])
    os.close(pipe[1])


def replaced(folder: Path) -> None:
    folder.rename(folder.with_name("former"))
    folder.mkdir(mode=0o700)


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def readable(folder: Path) -> None:
    folder.chmod(0o755)


@pytest.mark.parametrize("change", [replaced, removed, readable])
def test_a_folder_that_has_changed_is_proved_again(
    spool: Spool, folder: Path, change: Callable[[Path], None]
) -> None:
    spool.prove()
    change(folder)

    spool.prove()

    assert kept(folder) == [4096]
    assert kept(folder.with_name("former")) == []


def test_a_folder_that_others_may_write_now_is_refused(spool: Spool, folder: Path) -> None:
    spool.prove()
    folder.chmod(0o777)

    with pytest.raises(SpoolUnavailable, match="chmod 700"):
        spool.prove()


def test_a_disk_that_became_read_only_is_refused(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.prove()
    asked: list[tuple[str, int]] = []

    def refused(*given: Any, **named: Any) -> int:
        raise OSError(30, os.strerror(30))

    def access(path: str, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "open", refused)

    with pytest.raises(SpoolUnavailable, match="Read-only file system"):
        spool.prove()

    assert asked == [(str(folder), os.W_OK | os.X_OK)]


def test_a_folder_that_cannot_be_read_keeps_no_room(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[None] = []
    real = os.open

    def counted(*given: Any, **named: Any) -> int:
        made.append(None)
        return real(*given, **named)

    def refused(path: Any) -> os.stat_result:
        raise PermissionError(13, os.strerror(13))

    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "stat", refused)
    monkeypatch.setattr(os, "open", counted)

    spool.prove()
    spool.prove()

    assert len(made) == 2
    spool.put(stored(), a_connection())
    monkeypatch.undo()
    assert names(folder) == [f"{key_of('code').hex()}.json"]
    assert kept(folder) == []


def test_a_file_that_could_not_be_filled_is_closed(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    real, before = os.open, os.listdir("/proc/self/fd")

    def full(*_: Any, **__: Any) -> int:
        return real("/dev/full", os.O_WRONLY)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(SpoolUnavailable, match="No space left"):
            spool.prove()

    assert len(os.listdir("/proc/self/fd")) == len(before)
