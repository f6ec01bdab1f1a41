"""Two ways to fork: Python's, and that of a server written in C."""

from __future__ import annotations

import ctypes
import os

import pytest


def fork_as_uwsgi_does() -> int:
    """The C library's fork: the hooks of `os.register_at_fork` do not run."""
    # PyDLL keeps the interpreter's lock, so that the child has it.
    return int(ctypes.PyDLL(None).fork())


FORKS = [
    pytest.param(os.fork, id="with hooks"),
    pytest.param(fork_as_uwsgi_does, id="without hooks"),
]
