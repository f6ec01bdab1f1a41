"""
Asks Finch about connections in a thread of its own, so that no webhook's response waits for it.

What is lost when the process ends is found by `Connections.refresh_stale`.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

#: Questions of one process in `WINDOW_SECONDS`. Finch allows 1,000 for one address, which are
#: for the application.
LIMIT = 30
WINDOW_SECONDS = 300.0
#: Connections that may wait; `refresh_stale` finds those beyond it.
WAITING_LIMIT = 1_000


class Asking:
    """
    Calls *ask* with each connection_id that it is given, one after the other; one per process.

    *ask* raises nothing. It returns False where Finch is to be left alone; then every connection
    that waits is dropped.
    """

    def __init__(self, ask: Callable[[str], bool]) -> None:
        self._ask = ask
        self._asked_at: collections.deque[float] = collections.deque(maxlen=LIMIT)
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def about(self, connection_id: str) -> bool:
        """Ask soon. Whether there is room for it."""
        with self._lock:
            if connection_id not in self._waiting and len(self._waiting) >= WAITING_LIMIT:
                return False
            self._waiting[connection_id] = None
            if self._thread is None:
                # A server that stops does not wait for Finch.
                self._thread = threading.Thread(target=self._run, name="finch-asking", daemon=True)
                self._thread.start()
        return True

    def _run(self) -> None:
        try:
            while self._has_turn():
                time.sleep(self._pause())
                with self._lock:
                    connection_id = next(iter(self._waiting))
                    del self._waiting[connection_id]
                self._asked_at.append(time.monotonic())
                if not self._ask(connection_id):
                    with self._lock:
                        self._waiting.clear()
        except BaseException:  # also at exit; else the next connection starts no thread
            with self._lock:
                self._thread = None
            raise

    def _has_turn(self) -> bool:
        """Whether a connection waits; without one the thread ends, and the next starts another."""
        with self._lock:
            if not self._waiting:
                self._thread = None
            return self._thread is not None

    def _pause(self) -> float:
        """The seconds until the next question is within the limit."""
        if len(self._asked_at) < LIMIT:
            return 0.0
        return max(self._asked_at[0] + WINDOW_SECONDS - time.monotonic(), 0.0)
