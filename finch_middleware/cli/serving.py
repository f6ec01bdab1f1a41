"""Commands that serve until they are told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_POLL_SECONDS = 0.2


@contextmanager
def until_interrupted() -> Iterator[None]:
    """A block that Ctrl-C or SIGTERM ends, quietly and with everything in it cleaned up."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        # On a line of its own, behind the terminal's ^C.
        click.echo("\nStopped.")
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_while(fine: Callable[[], bool]) -> None:
    """Return once it is no longer so."""
    while fine():
        time.sleep(_POLL_SECONDS)
