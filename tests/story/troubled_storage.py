"""A real storage with troubles on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.protocol import Storage


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: TroubledStorage, *args: Any, **kwargs: Any) -> Any:
        return self.call(name, *args, **kwargs)

    return method


class TroubledStorage:
    """
    Passes every call on to a real storage, unless it was told to fail.

    Attributes:
        real: The storage beneath.
        calls: The names of the methods that were called, in order.
    """

    def __init__(self, real: Storage) -> None:
        self.real = real
        self.calls: list[str] = []
        self._troubles: dict[str, list[Callable[[Callable[[], Any]], Any]]] = {}
        self._lock = threading.Lock()

    def down(self, *methods: str, times: int = 1000) -> None:
        """These methods fail before they do anything."""
        for method in methods:
            self._troubles.setdefault(method, []).extend([_down] * times)

    def cut(self, method: str, *, times: int = 1) -> None:
        """The method does its work, and its caller is told that it did not."""
        self._troubles.setdefault(method, []).extend([_cut] * times)

    def first(self, method: str, action: Callable[[], object]) -> None:
        """Before the method's next call does its work, *action* runs."""

        def trouble(work: Callable[[], Any]) -> Any:
            action()
            return work()

        self._troubles.setdefault(method, []).append(trouble)

    def then(self, method: str, action: Callable[[], object]) -> None:
        """After the method's next call has done its work, *action* runs; then its caller knows."""
        self._troubles.setdefault(method, []).append(lambda work: (work(), action())[0])

    def twice(self, method: str) -> None:
        """The method's next call does its work twice, as a driver that tries again does."""
        self._troubles.setdefault(method, []).append(lambda work: (work(), work())[1])

    def raises(self, method: str, error: Exception) -> None:
        """The method's next call raises *error*, which no storage should."""

        def trouble(work: Callable[[], Any]) -> Any:
            raise error

        self._troubles.setdefault(method, []).append(trouble)

    def heal(self) -> None:
        """No more troubles."""
        self._troubles.clear()

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What the real storage answers, or the trouble that is due."""
        with self._lock:
            self.calls.append(name)
            due = self._troubles.get(name)
            trouble = due.pop(0) if due else None

        def work() -> Any:
            return getattr(self.real, name)(*args, **kwargs)

        return trouble(work) if trouble else work()

    check = _passed_on("check")
    claim = _passed_on("claim")
    attempt = _passed_on("attempt")
    settle = _passed_on("settle")
    release = _passed_on("release")
    unsettled = _passed_on("unsettled")
    quarantined = _passed_on("quarantined")
    get = _passed_on("get")
    for_customer = _passed_on("for_customer")
    delete = _passed_on("delete")
    scan = _passed_on("scan")
    swap = _passed_on("swap")
    forget = _passed_on("forget")


def _down(work: Callable[[], Any]) -> Any:
    raise StorageUnavailable("unavailable")


def _cut(work: Callable[[], Any]) -> Any:
    work()
    raise StorageUnavailable("unavailable")
