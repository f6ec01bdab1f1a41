"""Threads of an adapter's own: bounded, lazy, at home in a forked process, never in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from finch_middleware.adapters.threads import Threads

PATIENCE_SECONDS = 10


def alive() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("finch-test-")]


def until(condition: Callable[[], bool]) -> bool:
    """Whether *condition* comes true while the test has patience."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_work_is_done_in_a_named_thread_that_goes_afterwards() -> None:
    threads = Threads(name="finch-test", most=2)

    before = alive()
    name = threads.submit(lambda: threading.current_thread().name).result(PATIENCE_SECONDS)

    assert before == []
    assert name == "finch-test-1"
    assert until(lambda: alive() == [])


def test_no_more_threads_work_than_were_allowed_and_the_rest_waits_its_turn() -> None:
    threads, gate = Threads(name="finch-test", most=2), threading.Event()
    done: list[int] = []

    def work(number: int) -> None:
        gate.wait(PATIENCE_SECONDS)
        done.append(number)

    futures = [threads.submit(lambda number=number: work(number)) for number in range(6)]
    working = len(alive())
    gate.set()
    for future in futures:
        future.result(PATIENCE_SECONDS)

    assert working == 2
    assert sorted(done) == list(range(6))
    assert until(lambda: alive() == [])


def test_an_error_of_the_work_is_the_error_of_whoever_waits_and_the_thread_goes_on() -> None:
    threads = Threads(name="finch-test", most=1)

    def fail() -> None:
        raise LookupError("as asked")

    failed, after = threads.submit(fail), threads.submit(lambda: "done")

    with pytest.raises(LookupError, match="as asked"):
        failed.result(PATIENCE_SECONDS)
    assert after.result(PATIENCE_SECONDS) == "done"


def test_work_in_the_queue_cannot_be_called_off() -> None:
    threads, gate = Threads(name="finch-test", most=1), threading.Event()
    threads.submit(lambda: gate.wait(PATIENCE_SECONDS))
    queued = threads.submit(lambda: "done")

    cancelled = queued.cancel()
    gate.set()

    assert not cancelled
    assert queued.result(PATIENCE_SECONDS) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_works_although_all_threads_of_its_parent_are_busy() -> None:
    threads, gate = Threads(name="finch-test", most=1), threading.Event()
    busy = threads.submit(lambda: gate.wait(PATIENCE_SECONDS))
    threads.submit(lambda: None)

    with threads._lock:  # as one of the threads may do at that moment
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            signal.alarm(PATIENCE_SECONDS)
            done = False
            try:
                done = threads.submit(lambda: len(alive()) == 1).result(PATIENCE_SECONDS / 2)
            finally:
                os._exit(0 if done else 1)
    _, status = os.waitpid(child, 0)
    gate.set()

    assert os.waitstatus_to_exitcode(status) == 0
    assert busy.result(PATIENCE_SECONDS)


def ended(work: str) -> str:
    """What a process prints that ends while this work is under way."""
    script = (
        "import threading, time\n"
        "from finch_middleware.adapters import threads\n"
        "threads.EXIT_SECONDS = 1.0\n"
        f"threads.Threads(name='finch-test', most=1).submit(lambda: {work})\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


def test_work_under_way_when_the_process_ends_is_done() -> None:
    printed = ended("(time.sleep(0.3), print('stored'))")

    assert printed == "stored\n"


def test_work_that_hangs_does_not_keep_the_process_from_ending() -> None:
    printed = ended("(print('begun', flush=True), threading.Event().wait())")

    assert printed == "begun\n"
