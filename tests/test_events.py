"""Events: one log line each, and the application's `on_event`."""

from __future__ import annotations

import logging

import pytest

from finch_middleware.hooks.events import ACTIONS, REFUSED_LINES_LIMIT, Event, Events, Problem


def test_an_event_is_one_log_line_with_its_fields_apart(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(client_id="client-1", on_event=None)
    caplog.set_level(logging.DEBUG, "finch_middleware")

    events.report("finch.connection.stored", logging.INFO, reference="REF", elapsed_ms=12)

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("finch_middleware", logging.INFO)
    assert record.getMessage() == (
        "finch.connection.stored client_id='client-1' reference='REF' elapsed_ms=12"
    )
    assert record.__dict__["finch"] == {
        "name": "finch.connection.stored",
        "level": logging.INFO,
        "client_id": "client-1",
        "reference": "REF",
        "elapsed_ms": 12,
    }


def test_the_hook_gets_the_event_that_was_logged() -> None:
    received: list[Event] = []
    events = Events(client_id="client-1", on_event=received.append)

    events.report("finch.x", logging.ERROR, reason="busy", customer_ids=("acme",))

    assert received == [
        Event(
            name="finch.x",
            level=logging.ERROR,
            client_id="client-1",
            reason="busy",
            customer_ids=("acme",),
        )
    ]


def test_the_hook_gets_what_the_log_level_hides() -> None:
    received: list[Event] = []
    logging.getLogger("finch_middleware").setLevel(logging.CRITICAL)
    try:
        Events(client_id="c", on_event=received.append).report("finch.x", logging.DEBUG)
    finally:
        logging.getLogger("finch_middleware").setLevel(logging.NOTSET)

    assert [event.name for event in received] == ["finch.x"]


def test_a_hook_that_raises_does_not_stop_the_event_and_its_text_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(event: Event) -> None:
        raise RuntimeError("canary")

    Events(client_id="c", on_event=hook).report("finch.x", logging.ERROR)

    names = [record.getMessage().partition(" ")[0] for record in caplog.records]
    assert names == ["finch.x", "finch.hook.failed"]
    assert "canary" not in caplog.text
    reported = caplog.records[1].__dict__["finch"]
    assert (reported["name"], reported["reason"]) == ("finch.hook.failed", "on_event")


@pytest.mark.parametrize("raising", ["", "on_event", "on_problem"])
@pytest.mark.parametrize("name", ["finch.token.lost", "finch.connection.stored"])
def test_only_a_problem_is_one_and_a_hook_that_raises_is_reported_to_the_other(
    name: str, raising: str
) -> None:
    received: list[Event] = []
    problems: list[Problem] = []

    def on_event(event: Event) -> None:
        received.append(event)
        if raising == "on_event":
            raise RuntimeError("canary")

    def on_problem(problem: Problem) -> None:
        problems.append(problem)
        if raising == "on_problem":
            raise RuntimeError("canary")

    events = Events(client_id="c", on_event=on_event, on_problem=on_problem)
    delivered = events.report(name, logging.INFO)

    is_one = name in ACTIONS
    failed = ["finch.hook.failed"]
    assert delivered is not (is_one and raising == "on_problem")
    heard = failed if is_one and raising == "on_problem" else []
    assert [event.name for event in received] == [name, *heard]
    heard = failed if raising == "on_event" else []
    assert [each.event.name for each in problems] == [*heard, *([name] if is_one else [])]
    assert all(each.action == ACTIONS[each.event.name] for each in problems)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_hook_cannot_swallow_the_end_of_the_process(stop: type[BaseException]) -> None:
    def hook(event: Event) -> None:
        raise stop

    with pytest.raises(stop):
        Events(client_id="c", on_event=hook).report("finch.x", logging.DEBUG)


def test_no_field_can_forge_a_second_line(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(client_id="c", on_event=None)

    events.report("finch.x", logging.ERROR, customer_ids=("a\nfinch.connection.stored\r\x1b[2J",))

    message = caplog.records[0].getMessage()
    assert message.isprintable()


def test_an_unknown_field_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError):
        Events(client_id="c", on_event=None).report("finch.x", logging.DEBUG, token="x")


def _refuse(events: Events, *, times: int, reason: str = "malformed", **more: object) -> None:
    for _ in range(times):
        events.report("finch.callback.rejected", logging.WARNING, reason=reason, **more)


def test_a_flood_of_refused_requests_writes_few_lines_and_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = 59.0
    received: list[Event] = []
    events = Events(client_id="c", on_event=received.append, monotonic=lambda: seconds)

    _refuse(events, times=REFUSED_LINES_LIMIT + 37)
    in_the_first_minute = len(caplog.records)
    seconds = 60.0
    _refuse(events, times=2)

    assert in_the_first_minute == REFUSED_LINES_LIMIT
    first, second = [r.__dict__["finch"] for r in caplog.records[REFUSED_LINES_LIMIT:]]
    assert first["left_out"] == 37
    assert "left_out=37" in caplog.records[REFUSED_LINES_LIMIT].getMessage()
    assert "left_out" not in second
    assert len(received) == REFUSED_LINES_LIMIT + 39


def test_a_flood_for_one_reason_hides_no_line_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Events(client_id="c", on_event=None, monotonic=lambda: 0.0)
    _refuse(events, times=REFUSED_LINES_LIMIT + 1)
    caplog.clear()

    _refuse(events, times=1, reason="state_mismatch")
    events.report("finch.begin.rejected", logging.WARNING, reason="malformed")
    events.report("finch.token.lost", logging.CRITICAL, reason="malformed")

    assert len(caplog.records) == 3


def test_what_is_no_refusal_is_always_written(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(client_id="c", on_event=None, monotonic=lambda: 0.0)

    for _ in range(REFUSED_LINES_LIMIT * 3):
        events.report("finch.exchange.ambiguous", logging.ERROR)

    assert len(caplog.records) == REFUSED_LINES_LIMIT * 3


def test_lines_that_the_level_hides_count_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(client_id="c", on_event=None, monotonic=lambda: 0.0)
    caplog.set_level(logging.ERROR, "finch_middleware")
    _refuse(events, times=REFUSED_LINES_LIMIT)

    caplog.set_level(logging.DEBUG, "finch_middleware")
    _refuse(events, times=1)

    assert len(caplog.records) == 1
