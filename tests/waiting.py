"""Waiting for an event, however busy the machine is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(happened: Callable[[], object], *, seconds: float = 120) -> None:
    """Return as soon as *happened* is true."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)


def wait_for_questions() -> None:
    """Return once no thread of this process asks Finch about connections."""
    wait_until(lambda: "finch-asking" not in {each.name for each in threading.enumerate()})
