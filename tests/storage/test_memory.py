"""The storage in this process's memory."""

from __future__ import annotations

import os
import threading

import pytest

from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import an_attempt
from finch_middleware.testing.storage_contract import StorageContract
from tests.processes import forked, succeeds


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


def test_lock_held_at_a_fork_does_not_hang_the_child() -> None:
    storage = MemoryStorage()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._lock[os.getpid()]:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = forked(lambda: storage.claim(an_attempt()) is None)
    done.set()
    holder.join()

    assert succeeds(child)
