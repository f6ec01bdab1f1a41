"""Keeps a token while storage is unavailable after an exchange: one durable file a token."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finch_middleware.attempts import Attempt
from finch_middleware.errors import SpoolUnavailable, StorageFault, StorageUnavailable
from finch_middleware.records import UNREADABLE, StoredConnection, row_from_json, row_to_json

if TYPE_CHECKING:
    from finch_middleware.storage.protocol import Storage

logger = logging.getLogger("finch_middleware")

_SUFFIX, _PART = ".json", ".part"
_ENTRY = re.compile(r"[0-9a-f].*\.json|\.[0-9a-f].*\.json\.part")
_UNSTORABLE, _NOT_REMOVED = "finch.spool.unstorable", "finch.spool.not_removed"
_FOR_OPERATORS = (_UNSTORABLE, _NOT_REMOVED)
_OLD_SECONDS = 3600
# Of an entry.
_LARGEST_BYTES = 4096
_WRITABLE_BY_OTHERS = 0o022
#: Reasons of a storage that concern one entry, not the storage.
_OF_ONE_ENTRY = ("unstorable", "unreadable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A settled attempt that is not in storage yet, with the connection that it created."""

    attempt: Attempt
    connection: StoredConnection | None


#: A folder as a process found it: its own id, then the folder's device, inode, mode and owner.
_Found = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """
    The disk's room for one entry: a file as large, which has no name and ends with this object.

    Attributes:
        found: Its folder, as this process found it.
    """

    descriptor: int
    found: _Found | None

    def free(self) -> None:
        """Give it back to the disk, also where a forked child has the file open."""
        if self.found is not None and self.found[0] == os.getpid():
            with contextlib.suppress(OSError):  # without it, the entry may still find room
                os.ftruncate(self.descriptor, 0)

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Thread(threading.local):
    """What each thread has of its own."""

    room: _Room | None = None


class Spool:
    """
    A folder (mode 0700) of files (mode 0600) that hold ciphertext and hashes only.

    Without a folder it is always empty, and `put` raises.
    """

    def __init__(self, folder: Path | None) -> None:
        # A text, because each callback looks here, and a Path costs ten times as much.
        self._folder = os.fspath(folder) if folder is not None else None
        self._reported: set[tuple[str, str]] = set()
        self._thread = _Thread()

    def prove(self, *, make: bool = True) -> None:
        """
        Return when this thread can write an entry, or when there is no folder.

        The thread keeps the room for it until `put`, so a disk that others fill costs no token.

        *make*: create a missing folder. An operator's command must not: it may be another user.

        Raises:
            SpoolUnavailable: The folder cannot be created or written, the disk is full, or
                others may write into the folder.
        """
        folder, room = self._folder, self._thread.room
        if folder is None or not (make or os.path.isdir(folder)):
            return
        found = _found(folder)
        kept = room is not None and found is not None and room.found == found
        # No access to a disk that has become read-only, either.
        if not kept or not os.access(folder, os.W_OK | os.X_OK):
            self._write(self._keep_room)

    def put(self, attempt: Attempt, connection: StoredConnection | None) -> None:
        """
        Keep a settled attempt until storage is available. On disk when it returns.

        Raises:
            SpoolUnavailable: It could not be written, or there is no folder.
        """
        if self._folder is None:
            raise SpoolUnavailable("there is no spool", reason="none")
        entry = {
            "attempt": row_to_json(attempt.as_row()),
            "connection": row_to_json(connection.as_row()) if connection else None,
        }
        name, text = attempt.code_hash.hex() + _SUFFIX, json.dumps(entry)
        self._free_room()
        self._write(lambda folder: _write_named(folder, name, text))

    def entry(self, code_hash: bytes) -> Entry | None:
        """The waiting entry of this code, or None."""
        # A callback rarely finds one, and to open a missing file costs four times as much.
        found = (self._read(path) for path in self._paths(code_hash) if os.access(path, os.F_OK))
        return next((entry for entry in found if entry is not None), None)

    def entries(self) -> Iterator[Entry]:
        """
        All waiting entries, also those whose writer was killed before it named the file.

        An unreadable file stays where it is, and is logged once.
        """
        if self._folder is None or not os.path.isdir(self._folder):
            return
        names: list[str] = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            names = sorted(each.name for each in found)
        for name in names:
            if _ENTRY.fullmatch(name):
                entry = self._read(os.path.join(self._folder, name))
                if entry is not None:
                    yield entry

    def drain(
        self, storage: Storage, *, client_id: str, limit: int | None = None
    ) -> Iterator[Entry]:
        """
        Settle waiting entries, at most *limit*; yields each that this call moved to the storage.

        Those of another client_id stay: they may belong to another storage.
        Two processes may do it at once: the newest token wins, and one of them gets the entry.

        Raises:
            StorageFault: Storage is still unavailable; the other entries stay.
        """
        settled = 0
        for entry in self.entries():
            if limit is not None and settled >= limit:
                return
            if limit is not None and self._reported & {(e, _name(entry)) for e in _FOR_OPERATORS}:
                continue  # only an operator's command retries it
            if entry.attempt.client_id == client_id and self.settle(entry, storage):
                settled += 1
                if self.remove(entry):
                    yield entry

    def settle(self, entry: Entry, storage: Storage) -> bool:
        """Give one entry to the storage, as `drain`. False: it refuses this one, not others."""
        try:
            storage.settle(entry.attempt, entry.connection)
        except StorageUnavailable as fault:
            if fault.reason not in _OF_ONE_ENTRY:
                raise
        except StorageFault:
            raise
        except Exception:  # whatever a storage raises, the other entries are tried
            pass
        else:
            return True
        self._report(_UNSTORABLE, _name(entry))
        return False

    def remove(self, entry: Entry) -> bool:
        """
        Remove an entry that is in the storage now.

        True for one of those who do so at once: only that one reports the token.
        """
        removed = False
        for path in self._paths(entry.attempt.code_hash):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError:  # a disk that became read-only: settling it again changes nothing
                removed |= self._report(_NOT_REMOVED, _name(entry))
            else:
                removed = True
        return removed

    def _paths(self, code_hash: bytes) -> list[str]:
        """Where the entry of this code may be: under its name, or not yet."""
        if self._folder is None:
            return []
        name = code_hash.hex() + _SUFFIX
        return [os.path.join(self._folder, each) for each in (name, f".{name}{_PART}")]

    def _read(self, path: str) -> Entry | None:
        """The entry in that file; None where it is missing or cannot be read."""
        try:
            with open(path, encoding="ascii") as file:
                entry = _entry_of(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, *UNREADABLE, StorageUnavailable):
            entry = None
        # Under another name it would be settled again and again, and never removed.
        if entry is not None and path in self._paths(entry.attempt.code_hash):
            return entry
        # A file without its name yet may be half of one that is being written.
        if not path.endswith(_PART) or _is_old(path):
            self._report("finch.spool.unreadable", os.path.basename(path))
        return None

    def _report(self, name: str, file: str) -> bool:
        """Report a file that an operator has to check; once, not at every callback."""
        if (name, file) in self._reported:
            return False
        self._reported.add((name, file))
        logger.error("%s file=%r", name, file, extra={"finch": {"name": name, "file": file}})
        return True

    def _keep_room(self, folder: str) -> None:
        found, left = _found(folder), bytes(_LARGEST_BYTES)
        # On Linux it has no name, or the next commit would wait until the name is in the journal.
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            while left:
                left = left[file.write(left) :]
            self._thread.room = _Room(descriptor=os.dup(file.fileno()), found=found)

    def _free_room(self) -> None:
        room, self._thread.room = self._thread.room, None
        if room is not None:
            room.free()

    def _write(self, write: Callable[[str], None]) -> None:
        """*write* into the folder, which is made where it is missing."""
        folder = self._folder
        assert folder is not None
        try:
            try:
                write(folder)
            except FileNotFoundError:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                _sync_folder(os.path.dirname(folder) or os.curdir)
                write(folder)
        except OSError as error:
            failure = SpoolUnavailable(
                f"the spool cannot be written: {error.strerror}", reason="unwritable"
            )
        else:
            return
        raise failure


def _found(folder: str) -> _Found | None:
    """
    The folder as it is now; None where it is missing or cannot be read.

    Raises:
        SpoolUnavailable: Another user may write there, and replace a token by one of their own.
    """
    try:
        found = os.stat(folder)
    except OSError:
        return None
    if os.name != "nt":  # pragma: no branch - Windows has access lists in place of modes
        foreign = found.st_uid != os.geteuid() and os.geteuid() != 0
        if found.st_mode & _WRITABLE_BY_OTHERS or foreign:
            raise SpoolUnavailable(
                "other users can write to the spool's folder: use chmod 700 or chown",
                reason="not_private",
            )
    return os.getpid(), found.st_dev, found.st_ino, found.st_mode, found.st_uid


def _write_named(folder: str, name: str, text: str) -> None:
    """Write a file that is on disk, and so is its name, when this returns."""
    part = os.path.join(folder, f".{name}{_PART}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):  # another process has drained it
            os.replace(part, os.path.join(folder, name))
        _sync_folder(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # pragma: no cover - Windows syncs folders, and cannot open them
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(entry: Entry) -> str:
    return entry.attempt.code_hash.hex() + _SUFFIX


def _is_old(path: str) -> bool:
    """Whether no process can be writing that file any more."""
    with contextlib.suppress(OSError):
        return time.time() - os.stat(path).st_mtime > _OLD_SECONDS
    return False


def _entry_of(text: str) -> Entry:
    entry = json.loads(text)
    connection = entry["connection"]
    return Entry(
        attempt=Attempt.from_row(row_from_json(entry["attempt"])),
        connection=StoredConnection.from_row(row_from_json(connection)) if connection else None,
    )
