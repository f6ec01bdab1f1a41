"""The program as a person runs it: a process of its own, its output, its signals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

PATIENCE_SECONDS = 240


def environ(**given: str) -> dict[str, str]:
    """The environment without any setting of this library but those given."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FINCH_")}
    return {**own, "PYTHONUNBUFFERED": "1", **given}


def run(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """``python -m finch_middleware.cli`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "finch_middleware.cli", *arguments],
        capture_output=True,
        text=True,
        env=environ(**given),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@dataclass(kw_only=True)
class Running:
    """A command that serves, and what it has printed so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> str:
        """What the pattern's first group matches, once it was printed."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            if found := re.search(pattern, self.output):
                return found[1]
            time.sleep(0.02)
        raise TimeoutError(f"{pattern!r} was not printed, but: {self.output}")

    def ended_by(self, signal_number: int) -> int:
        """The exit status after that signal."""
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(*arguments: str, **given: str) -> Iterator[Running]:
    """``python -m finch_middleware.cli`` while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "finch_middleware.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ(**given),
    )
    assert process.stdout is not None
    this = Running(process=process)
    reader = Thread(target=lambda: this.lines.extend(process.stdout or ()))
    reader.start()
    try:
        yield this
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)
        reader.join(PATIENCE_SECONDS)
        process.stdout.close()
