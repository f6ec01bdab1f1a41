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
    over_tls,
)
from tests.odd_server import Behaviour, Line, OddServer, answering, once, raw_answer

SPILLED = json.dumps({**GRANT, "access_token": [TOKEN]}).encode()
SHOUTED = finch_error("400 Bad", TOKEN)
CONNECTED = finch_error("400 Bad", "x", context={"connection_id": "c"})
ENDS: list[tuple[type[FinchError], str, Behaviour]] = [
    (CodeRejected, "exchange", answering(finch_error("400 Bad", "invalid_grant_error"))),
    (FinchUnavailable, "exchange", answering(finch_error("401 No", "invalid_client_error"))),
    (FinchUnavailable, "exchange", answering(raw_answer(b"", "Retry-After: 0", status="429 X"))),
    (FinchUnavailable, "exchange", Line.reset),
    (ExchangeAmbiguous, "exchange", once(b"", then=Line.reset)),
    (ExchangeAmbiguous, "exchange", answering(raw_answer(SPILLED, status="500 Oops"))),
    (ExchangeAmbiguous, "exchange", once(raw_answer(SPILLED)[:-9])),
    (BadResponse, "exchange", answering(raw_answer(SPILLED))),
    (BadResponse, "exchange", answering(raw_answer(SPILLED[:-1]))),
    (BadResponse, "exchange", answering(raw_answer(SPILLED * 900))),
    (BadResponse, "exchange", answering(raw_answer(SPILLED, "Content-Encoding: gzip"))),
    (BadResponse, "exchange", answering(raw_answer(b"", f"Location: /{TOKEN}", status="307 X"))),
    (BadResponse, "exchange", answering(SHOUTED)),
    (AlreadyConnected, "create_session", answering(CONNECTED)),
    (FinchRefused, "create_session", answering(finch_error("400 Bad", "bad_request"))),
    (FinchUnavailable, "create_session", answering(SHOUTED)),
    (FinchUnavailable, "create_session", answering(json_answer({"session_id": TOKEN}))),
    (FinchUnavailable, "introspect", answering(raw_answer(SPILLED[:-1]))),
    (FinchRefused, "introspect", answering(finch_error("401 No", "authentication_error"))),
    (FinchUnavailable, "disconnect", answering(raw_answer(SPILLED))),
    (FinchUnavailable, "disconnect", once(b"", then=Line.reset)),
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


@pytest.mark.parametrize(("kind", "call", "behave"), ENDS)
def test_no_failure_shows_a_secret(
    kind: type[FinchError], call: str, behave: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = {"customer_id": "acme"} if call == "create_session" else Secret(TOKEN)
    options = {"redirect_uri": None} if call == "exchange" else {}
    with OddServer(behave) as server:
        # A reset before the handshake leaves Finch unreachable.
        api = api_of(over_tls(server) if behave is Line.reset else server)

        with pytest.raises(FinchError) as caught:
            getattr(api, call)(given, within=9 * SECOND, **options)

    assert caplog.text
    assert type(caught.value) is kind
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert CANARY not in shown_by(caught.value) + caplog.text


def test_a_grant_shows_nothing_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with OddServer(answering(json_answer(GRANT))) as server:
        api = api_of(server)

        grant = exchanged(api)

    assert "Starting new HTTP connection" in caplog.text
    assert CANARY not in repr(grant) + caplog.text


def test_the_canaries_would_be_seen() -> None:
    token = TOKEN

    def spill() -> None:
        raise BadResponse(f"{token} {CODE} {CLIENT_SECRET}")

    with pytest.raises(BadResponse) as caught:
        spill()

    assert shown_by(caught.value).count(CANARY) >= 3
