"""The storage in this process's memory."""

from __future__ import annotations

import os
import threading

import pytest

from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import an_attempt
from finch_middleware.testing.storage_contract import StorageContract


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


def test_lock_held_at_a_fork_does_not_hang_the_child() -> None:
    storage = MemoryStorage()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._lock.get():
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.claim(an_attempt()) is None else 1)
    done.set()
    holder.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
