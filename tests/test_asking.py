"""Questions to Finch that no response waits for: their order, their limit, their end."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from finch_middleware.operations import asking
from finch_middleware.operations.asking import Asking
from tests.waiting import wait_for_questions, wait_until


def test_each_connection_is_asked_about_once_in_turn_and_the_thread_ends() -> None:
    begun, may_go = threading.Event(), threading.Event()
    asked: list[str] = []

    def ask(connection_id: str) -> bool:
        begun.set()
        may_go.wait()
        asked.append(connection_id)
        return True

    questions = Asking(ask)
    questions.about("a")
    begun.wait()
    for each in ("b", "c", "b", "a"):
        questions.about(each)
    may_go.set()

    wait_for_questions()
    assert asked == ["a", "b", "c", "a"]


def test_t50_no_more_are_asked_than_the_limit_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, asked = [], list[str]()
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=lambda each: pauses.append(each))
    monkeypatch.setattr(asking, "time", clock)
    monkeypatch.setattr(asking, "LIMIT", 2)
    may_go = threading.Event()
    questions = Asking(lambda each: may_go.wait() and (asked.append(each) or True))

    for each in "abcd":
        questions.about(each)
    may_go.set()

    wait_for_questions()
    assert asked == list("abcd")
    assert pauses == [0, 0, 300, 0]


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAITING_LIMIT", 1)
    may_go = threading.Event()
    questions = Asking(lambda each: may_go.wait())
    questions.about("a")
    wait_until(lambda: questions.about("b"))

    assert not questions.about("c")
    assert questions.about("b")
    may_go.set()


def test_t50_once_finch_is_to_be_left_alone_nothing_waits() -> None:
    begun, may_go = threading.Event(), threading.Event()
    asked: list[str] = []

    def ask(connection_id: str) -> bool:
        asked.append(connection_id)
        begun.set()
        may_go.wait()
        return connection_id != "a"

    questions = Asking(ask)
    questions.about("a")
    begun.wait()
    questions.about("b")
    may_go.set()

    wait_for_questions()
    assert asked == ["a"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_ours_ends_no_later_question() -> None:
    asked: list[str] = []

    def ask(connection_id: str) -> bool:
        asked.append(connection_id)
        if connection_id == "a":
            raise RuntimeError
        return True

    questions = Asking(ask)
    questions.about("a")
    wait_for_questions()
    questions.about("b")

    wait_until(lambda: asked == ["a", "b"])
