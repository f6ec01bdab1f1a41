"""Programs that tests start: each ends with the tests, and is waited for as long as it lives."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import IO

ROOT = Path(__file__).parents[1]

#: Below the range from which a kernel takes the ports of outgoing connections and of port 0.
_PORTS = range(10_000, 32_000)
# In an order of its own, not that of `random`, which is seeded anew for each test.
_UNUSED = iter(SystemRandom().sample(_PORTS, len(_PORTS)))
# Looked up here: between fork and exec, other threads may have left the loader locked.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def end_with_parent() -> None:
    """For `preexec_fn`: a killed test run leaves no such process behind. Linux alone has it."""
    if _PRCTL is not None:
        _PRCTL(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def forked(check: Callable[[], object]) -> int:
    """The number of a forked child; its status is 0 unless *check* raises or returns False."""
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        status = 1
        try:
            # The default handler ends the process, also one that waits for a lock.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(240)
            status = 1 if check() is False else 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever was raised: the child must not run the other tests as well.
            os._exit(status)
    return child


def status_of(child: int) -> int:
    """The exit status of that child once it has ended; a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def succeeds(child: int) -> bool:
    """Whether that child has ended with status 0."""
    return status_of(child) == 0


def open_files(folder: Path) -> list[int]:
    """The descriptors of this process whose files are in that folder, or were."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            if os.readlink(f"/proc/self/fd/{each}").startswith(f"{folder}/"):
                found.append(int(each))
    return found


@contextmanager
def started(
    command: Sequence[str], *, env: Mapping[str, str], log: IO[bytes], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """*command* as a process that writes to *log*, until the `with` block ends."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def listening(
    command: Sequence[str], *, port: int, env: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[Callable[[], str]]:
    """
    *command* as a process that accepts connections on *port*, until the block ends.

    What is yielded returns the text that the process has written so far.
    """
    with tempfile.TemporaryFile() as log, started(command, env=env, log=log, cwd=cwd) as process:

        def written() -> str:
            # Not by seek, which would move the place where the process writes.
            return os.pread(log.fileno(), 1 << 20, 0).decode()

        if not answers(port, process):
            raise AssertionError(f"{command} did not start:\n{written()}")
        yield written


def answers(port: int, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> bool:
    """Wait until something accepts connections on *port*; False if *process* ends before."""
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.02)
    return False


def free_port() -> int:
    """A port, given once, for a program that has to know its own before it listens."""
    while True:
        port = next(_UNUSED)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
