"""What is renewed in a forked child."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from finch_middleware import forks
from finch_middleware.forks import renew_in_children


class Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        renew_in_children(self, Holder.renew)

    def renew(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_lock_held_at_the_fork_is_free_in_the_child_and_held_in_the_parent() -> None:
    holder = Holder()
    holder.lock.acquire()

    child = os.fork()
    if child == 0:
        os._exit(0 if holder.lock.acquire(timeout=5) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert holder.lock.locked()


def test_what_is_to_be_renewed_is_not_kept_alive_for_that() -> None:
    holder = Holder()
    gone = weakref.ref(holder)

    del holder
    gc.collect()

    assert gone() is None


def test_every_owner_is_renewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(forks, "_RENEWALS", weakref.WeakKeyDictionary())
    owners = [Holder(), Holder()]
    for number, owner in enumerate(owners):
        renew_in_children(owner, lambda _, number=number: renewed.append(str(number)))  # type: ignore[misc]  # the loop's

    forks._forked()

    assert sorted(renewed) == ["0", "1"]
