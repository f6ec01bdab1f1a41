"""What a disk holds after a power loss: each file as it was at its last sync."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# strace's word that a sync of a file has returned; and that its process then stood still.
_SYNCED = re.compile(r"f(?:data)?sync\(\d+<([^>]+)>\)")
_STOPPED = "stopped by SIGSTOP"
_PATIENCE_SECONDS = 240


class Disk:
    """
    The files *database* and its log, as they survive.

    Attributes:
        folder: Where a copy stands that can be opened.
        syncs: How many there were.
    """

    def __init__(self, database: Path, *, folder: Path) -> None:
        self.folder, self.syncs = folder, 0
        self._database = database
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / self._database.name}"

    def begin(self) -> None:
        """All that stands there now was synced long ago."""
        for path in self._database.parent.glob(f"{self._database.name}*"):
            # The index of the log is memory, and no database needs it.
            if not path.name.endswith("-shm"):
                shutil.copy(path, self.folder / path.name)

    def sync(self, path: Path) -> None:
        """That file is on the disk, as it is."""
        if path.name.startswith(self._database.name):
            self.syncs += 1
            shutil.copy(path, self.folder / path.name)

    def after_power_loss(self) -> str:
        """The URL of the database that a person finds who turns the machine on again."""
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent)) / "after"
        shutil.copytree(self.folder, folder)
        return f"sqlite:///{folder / self._database.name}"


@contextlib.contextmanager
def standing_still_at_each_sync(
    worker: int, *, disk: Disk, trace: Path, before: Callable[[], object]
) -> Iterator[None]:
    """The worker stops behind each of its syncs: *before* looks at the disk; then it has it."""
    disk.begin()
    options = ["-y", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:signal=STOP"]
    command = ["strace", "-f", "-o", str(trace), *options, "-p", str(worker)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        until = time.monotonic() + _PATIENCE_SECONDS
        while "TracerPid:\t0\n" in Path(f"/proc/{worker}/status").read_text():
            if tracer.poll() is not None or time.monotonic() > until:
                raise RuntimeError("strace cannot attach to a worker")
            time.sleep(0.001)
        watcher = threading.Thread(target=_watch, args=(worker, tracer, trace, disk, before))
        watcher.start()
        yield
        watcher.join()


def _watch(
    worker: int,
    tracer: subprocess.Popen[bytes],
    trace: Path,
    disk: Disk,
    before: Callable[[], object],
) -> None:
    seen = 0
    while tracer.poll() is None:
        text = trace.read_text(errors="replace")
        if text.count(_STOPPED) == seen:
            time.sleep(0.001)
            continue
        seen += 1
        try:
            before()
            disk.sync(Path(_SYNCED.findall(text)[-1]))
        finally:
            os.kill(worker, signal.SIGCONT)
