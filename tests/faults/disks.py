"""A small disk of a test's own, and one without room."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.required import absent


@contextmanager
def mounted(*, kibibytes: int) -> Iterator[Path]:
    """A disk of that size, in memory; a skip where this machine does not let us have one."""
    with tempfile.TemporaryDirectory(prefix="finch-disk-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            absent("disks", "mounting a disk needs root's rights")
        try:
            yield Path(folder)
        finally:
            # Lazily: a pool of a site that is ending may still have a file open.
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """That disk, with no room left."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """That disk, which takes nothing any more."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
