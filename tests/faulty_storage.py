"""A real storage whose calls fail as a test scripts it."""

from __future__ import annotations

import threading
from abc import update_abstractmethods
from collections.abc import Callable
from typing import Any

from finch_middleware.attempts import Attempt
from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.protocol import Storage

Work = Callable[[], Any]
Fault = Callable[[Work], Any]


class FaultyStorage(Storage):
    """
    Passes every call to a real storage, unless a fault is scripted for it.

    The faults of a method are used up in the order in which they were scripted.

    Attributes:
        real: The storage beneath.
        calls: The names of the methods that were called, in order.
    """

    def __init__(self, real: Storage) -> None:
        self.real = real
        self.calls: list[str] = []
        self._faults: dict[str, list[Fault]] = {}
        self._always: dict[str, Callable[..., object]] = {}
        self._lock = threading.Lock()

    def down(self, *methods: str, times: int = 1000) -> None:
        """These methods raise StorageUnavailable before they do anything."""
        for method in methods:
            self.raises(method, StorageUnavailable("unavailable"), times=times)

    def raises(self, method: str, error: BaseException, *, times: int = 1) -> None:
        """The method raises *error* before it does anything."""

        def fault(work: Work) -> Any:
            raise error

        self._script(method, fault, times=times)

    def cut(self, method: str) -> None:
        """The method's next call does its work, and still raises StorageUnavailable."""

        def fault(work: Work) -> Any:
            work()
            raise StorageUnavailable("unavailable")

        self._script(method, fault)

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Before the method's next call does its work, *action* runs."""
        self._script(method, lambda work: (action(), work())[1])

    def after(self, method: str, action: Callable[[], object]) -> None:
        """After the method's next call has done its work, *action* runs."""
        self._script(method, lambda work: (work(), action())[0])

    def twice(self, method: str) -> None:
        """The method's next call does its work twice, as a driver that retries does."""
        self._script(method, lambda work: (work(), work())[1])

    def always(self, method: str, action: Callable[..., object]) -> None:
        """Before each call of the method, *action* gets its arguments; it may raise."""
        self._always[method] = action

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()
        self._always.clear()

    def call(self, name: str, *args: Any, of_real: str = "", **kwargs: Any) -> Any:
        """The fault that is due, or what the real storage's method *of_real* or *name* returns."""
        with self._lock:
            self.calls.append(name)
            due = self._faults.get(name)
            fault = due.pop(0) if due else None
        if name in self._always:
            self._always[name](*args, **kwargs)

        def work() -> Any:
            return getattr(self.real, of_real or name)(*args, **kwargs)

        return fault(work) if fault else work()

    def claim_and_read(self, attempt: Attempt) -> Any:
        """That of the real storage, with the faults of `claim`."""
        return self.call("claim", attempt, of_real="claim_and_read")

    def _script(self, method: str, fault: Fault, *, times: int = 1) -> None:
        self._faults.setdefault(method, []).extend([fault] * times)


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: FaultyStorage, *args: Any, **kwargs: Any) -> Any:
        return self.call(name, *args, **kwargs)

    return method


# And `get`, which the base class has, because many tests let it fail.
for _name in (*Storage.__abstractmethods__, "get"):
    setattr(FaultyStorage, _name, _passed_on(_name))
update_abstractmethods(FaultyStorage)
