"""strace at the side of a worker of `benchmarks.crash_campaign`."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE_SECONDS = 240


@contextlib.contextmanager
def let_go(worker: int) -> Iterator[None]:
    """Nobody looks at the worker, or harms it."""
    yield


@contextlib.contextmanager
def tracing(worker: int, *options: str) -> Iterator[None]:
    """strace on the worker, attached when the block begins."""
    command = ["strace", "-f", "-qq", *options, "-p", str(worker)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not _traced(worker):
            if tracer.poll() is not None or time.monotonic() > until:
                raise RuntimeError("strace cannot attach to a worker")
            time.sleep(0.001)
        yield


def _traced(worker: int) -> bool:
    """Whether strace has it; or had it, where the very first call was its last."""
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{worker}/status").read_text()
    except OSError:
        return True
