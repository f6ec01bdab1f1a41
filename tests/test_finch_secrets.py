"""No error, no log and no repr shows a secret, however a call ends."""

from __future__ import annotations

import json
import logging
import traceback
from types import TracebackType

import pytest

from finch_middleware.errors import (
    AlreadyConnected,
    BadResponse,
    CodeRejected,
    ExchangeAmbiguous,
    FinchError,
    FinchRefused,
    FinchUnavailable,
)
from finch_middleware.secret import Secret
from tests.asking import (
    CANARY,
    CLIENT_SECRET,
    CODE,
    GRANT,
    SECOND,
    TOKEN,
    api_of,
    exchanged,
    finch_error,
    json_answer,
)
from tests.odd_server import Behaviour, Line, OddServer, answering, raw_answer, reset_after_request


def break_within_a_body(line: Line) -> None:
    line.request()
    line.send(raw_answer(SPILLED)[:-9])


SPILLED = json.dumps({**GRANT, "access_token": [TOKEN]}).encode()
CONNECTED = finch_error("400 Bad", "bad_request", context={"connection_id": "c"})
SHOUTED = finch_error("400 Bad", TOKEN)
ENDS: list[tuple[type[FinchError], Behaviour]] = [
    (CodeRejected, answering(finch_error("400 Bad", "invalid_grant_error"))),
    (FinchUnavailable, answering(finch_error("401 No", "invalid_client_error"))),
    (FinchUnavailable, answering(raw_answer(b"", "Retry-After: 0", status="429 Slow"))),
    (ExchangeAmbiguous, reset_after_request),
    (ExchangeAmbiguous, answering(raw_answer(SPILLED, status="500 Oops"))),
    (ExchangeAmbiguous, break_within_a_body),
    (BadResponse, answering(raw_answer(SPILLED))),
    (BadResponse, answering(raw_answer(SPILLED[:-1]))),
    (BadResponse, answering(raw_answer(SPILLED * 900))),
    (BadResponse, answering(raw_answer(SPILLED, "Content-Encoding: gzip"))),
    (BadResponse, answering(raw_answer(b"", f"Location: /{TOKEN}", status="307 Unavailable"))),
    (BadResponse, answering(SHOUTED)),
]
OTHER_ENDS: list[tuple[type[FinchError], str, Behaviour]] = [
    (
        AlreadyConnected,
        "create_session",
        answering(finch_error("400 Bad", "x", context={"connection_id": "c"})),
    ),
    (FinchRefused, "create_session", answering(finch_error("400 Bad", "bad_request"))),
    (FinchUnavailable, "create_session", answering(SHOUTED)),
    (FinchUnavailable, "create_session", answering(json_answer({"session_id": TOKEN}))),
    (FinchUnavailable, "introspect", answering(raw_answer(SPILLED[:-1]))),
    (FinchRefused, "introspect", answering(finch_error("401 No", "authentication_error"))),
    (FinchUnavailable, "disconnect", answering(raw_answer(SPILLED))),
    (FinchUnavailable, "disconnect", reset_after_request),
]


def shown_by(error: BaseException) -> str:
    """All that a reporter of errors could show: texts, attributes, causes, locals of our frames."""
    shown = ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
    for other in (error.__cause__, error.__context__):
        if other is not None:
            shown.append(shown_by(other))
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if "finch_middleware" in step.tb_frame.f_code.co_filename:
            shown.append(repr(step.tb_frame.f_locals))
        step = step.tb_next
    return "\n".join(shown)


def assert_hidden(error: FinchError, kind: type[FinchError], logged: str) -> None:
    assert type(error) is kind
    assert error.__cause__ is None
    assert error.__context__ is None
    assert CANARY not in shown_by(error)
    assert CANARY not in logged


@pytest.mark.parametrize(("kind", "behave"), ENDS)
def test_no_end_of_an_exchange_shows_a_secret(
    kind: type[FinchError], behave: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with OddServer(behave) as server:
        api = api_of(server)

        with pytest.raises(FinchError) as caught:
            exchanged(api, within=SECOND)

    assert caplog.text
    assert_hidden(caught.value, kind, caplog.text)


def test_an_exchange_that_reaches_nobody_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with OddServer(Line.reset) as server:
        server.url = server.url.replace("http:", "https:")
        api = api_of(server)

        with pytest.raises(FinchError) as caught:
            exchanged(api, within=SECOND)

    assert_hidden(caught.value, FinchUnavailable, caplog.text)


@pytest.mark.parametrize(("kind", "call", "behave"), OTHER_ENDS)
def test_no_end_of_another_call_shows_a_secret(
    kind: type[FinchError], call: str, behave: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    about: object = Secret(TOKEN) if call != "create_session" else {"customer_id": "acme"}
    with OddServer(behave) as server:
        api = api_of(server)

        with pytest.raises(FinchError) as caught:
            getattr(api, call)(about, within=SECOND)

    assert_hidden(caught.value, kind, caplog.text)


def test_a_grant_shows_nothing_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with OddServer(answering(json_answer(GRANT))) as server:
        api = api_of(server)

        grant = exchanged(api)

    assert "/auth/token" in caplog.text
    assert CANARY not in repr(grant) + caplog.text


def test_the_canaries_would_be_seen() -> None:
    token = TOKEN

    def spill() -> None:
        raise BadResponse(f"{token} {CODE} {CLIENT_SECRET}")

    with pytest.raises(BadResponse) as caught:
        spill()

    assert shown_by(caught.value).count(CANARY) >= 3
