from __future__ import annotations

import logging

import pytest

from finch_middleware.events import Event, Events


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
    told: list[Event] = []
    events = Events(client_id="client-1", on_event=told.append)

    events.report("finch.x", logging.ERROR, reason="busy", customer_ids=("acme",))

    assert told == [
        Event(
            name="finch.x",
            level=logging.ERROR,
            client_id="client-1",
            reason="busy",
            customer_ids=("acme",),
        )
    ]


def test_the_hook_is_told_what_the_log_level_hides() -> None:
    told: list[Event] = []
    logging.getLogger("finch_middleware").setLevel(logging.CRITICAL)
    try:
        Events(client_id="c", on_event=told.append).report("finch.x", logging.DEBUG)
    finally:
        logging.getLogger("finch_middleware").setLevel(logging.NOTSET)

    assert [event.name for event in told] == ["finch.x"]


def test_a_hook_that_raises_costs_nobody_anything_and_its_words_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(event: Event) -> None:
        raise RuntimeError("canary")

    Events(client_id="c", on_event=hook).report("finch.x", logging.ERROR)

    names = [record.getMessage().partition(" ")[0] for record in caplog.records]
    assert names == ["finch.x", "finch.hook.failed"]
    assert "canary" not in caplog.text
    assert caplog.records[1].__dict__["finch"] == {"name": "finch.x"}


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
