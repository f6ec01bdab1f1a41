"""What a forked child may not share with its parent: locks, pools, sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class PerProcess(dict[int, T]):
    """
    A value that every process makes for itself when it first asks: ``values[os.getpid()]``.

    The process id is compared at each use, because a server written in C (uWSGI) forks without
    running the hooks of Python. What the parent made stays referenced: closing it in the child
    could say goodbye on the parent's socket.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__()
        self._make = make
        self._locks: dict[int, threading.Lock] = {}

    def __missing__(self, process: int) -> T:
        # One lock a process: a lock that a thread held at the fork is never released.
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self:
                self[process] = self._make()
        return self[process]
