"""Waiting for an event, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], object], *, seconds: float = 120) -> None:
    """Return as soon as *happened* is true."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)
