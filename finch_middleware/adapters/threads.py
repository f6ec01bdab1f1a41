"""Threads of an adapter's own, so that the component never takes those of the application."""

from __future__ import annotations

import atexit
import functools
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from finch_middleware.forks import renew_in_children

T = TypeVar("T")

#: The budget of a callback, body, claim, exchange and settling, and a little more; gunicorn
#: kills a worker after 30.
EXIT_SECONDS = 25.0


class Threads:
    """
    At most *most* threads named after *name*, made when there is work, gone when there is none.

    Construction starts none, and a forked process has its own. Work that was given is done,
    whoever still waits for it; where the process ends it has EXIT_SECONDS to come to its end.
    """

    def __init__(self, *, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._number = itertools.count(1)
        self._begin_anew()
        renew_in_children(self, Threads._begin_anew)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """*work* under way, or in the queue; cancelling the Future calls nothing off."""
        future: Future[T] = Future()
        # A Future that runs cannot be cancelled: the queue may hold the only copy of a code.
        future.set_running_or_notify_cancel()
        job = functools.partial(_do, work, future)
        with self._lock:
            if self._working == self._most:
                self._queue.append(job)
            else:
                _Worker(target=self._work, args=(job,), name=self._next_name(), daemon=True).start()
                self._working += 1
        return future

    def _begin_anew(self) -> None:
        # In a forked process too: the parent's threads are not here to work its queue off.
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._working = 0

    def _next_name(self) -> str:
        return f"{self._name}-{next(self._number)}"

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            job = self._next()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._working -= 1
            return None


class _Worker(threading.Thread):
    """Known by its class when the process ends."""


def _do(work: Callable[[], T], future: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:  # whoever waits gets it, as from a call
        future.set_exception(error)
    else:
        future.set_result(result)


@atexit.register
def _let_finish() -> None:
    """Wait for tokens on their way; the threads are daemons, so one that hangs holds nobody."""
    until = time.monotonic() + EXIT_SECONDS
    for thread in threading.enumerate():
        if isinstance(thread, _Worker):
            thread.join(max(0.0, until - time.monotonic()))
