"""What a forked child may not share with its parent: locks, pools, sockets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """
    A value that every process makes for itself, when it first asks for it.

    The process id is compared at each `get`, because a server written in C (uWSGI) forks without
    running the hooks of Python. What the parent made stays referenced: closing it in the child
    could say goodbye on the parent's socket.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}
        self._locks: dict[int, threading.Lock] = {}

    def get(self) -> T:
        """This process's value."""
        process = os.getpid()
        try:
            return self._values[process]
        except KeyError:
            pass
        # One lock a process: a lock that a thread held at the fork is never released.
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self._values:
                self._values[process] = self._make()
        return self._values[process]
