"""What a forked child creates anew, without a hook of Python."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import finch_middleware
from finch_middleware.storage.forks import PerProcess
from finch_middleware.testing.sample_records import all_at_once
from tests.processes import forked, succeeds


def test_a_lock_held_at_the_fork_is_free_in_the_child_and_held_in_the_parent() -> None:
    lock = PerProcess(threading.Lock)
    lock[os.getpid()].acquire()

    child = forked(lambda: lock[os.getpid()].acquire(blocking=False))

    assert succeeds(child)
    assert lock[os.getpid()].locked()


def test_a_fork_while_a_value_is_being_made_does_not_hang_the_child() -> None:
    making, done = threading.Event(), threading.Event()
    parent = os.getpid()

    def make() -> int:
        if os.getpid() == parent:
            making.set()
            done.wait()
        return os.getpid()

    value = PerProcess(make)
    maker = threading.Thread(target=lambda: value[os.getpid()])
    maker.start()
    making.wait()

    child = forked(lambda: value[os.getpid()] == os.getpid())
    done.set()
    maker.join()

    assert succeeds(child)
    assert value[os.getpid()] == parent


def test_the_package_relies_on_no_hook_at_a_fork() -> None:
    package = Path(finch_middleware.__file__).parent

    using = [file.name for file in package.rglob("*.py") if "register_at_fork" in file.read_text()]

    assert using == []


def test_threads_that_ask_first_at_once_get_one_value() -> None:
    made: list[object] = []
    value = PerProcess(lambda: made.append(object()) or made[-1])

    found = all_at_once(lambda _: value[os.getpid()], range(8))

    assert len(made) == 1
    assert found == made * 8


def test_what_the_parent_made_is_not_collected_in_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = PerProcess(object)
    of_the_parent = id(value[os.getpid()])
    monkeypatch.setattr(os, "getpid", lambda: 0)

    of_the_child = value[os.getpid()]

    assert of_the_parent in map(id, value.values())
    assert id(of_the_child) != of_the_parent
