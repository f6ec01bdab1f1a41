"""
The application that gunicorn loads, once, before it forks its workers.

Its parts are in the environment: FINCH_… as usual, THREATS_CA for Finch's certificate,
THREATS_FOLDER for a log of events and for the seconds by which the clock is ahead.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from finch_middleware import Event, FinchConnect, FinchMiddleware
from finch_middleware.adapters.access_log import RedactCallback
from tests.internals import PATIENCE_SECONDS, wait_for_databases

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_FOLDER = Path(os.environ["THREATS_FOLDER"])


def _clock() -> datetime:
    ahead = _FOLDER / "ahead"
    seconds = float(ahead.read_text()) if ahead.exists() else 0.0
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _note(event: Event) -> None:
    line = json.dumps(
        {"name": event.name, "attempt": event.attempt_id, "reference": event.reference}
    )
    with open(_FOLDER / "events", "a", encoding="ascii") as file:
        file.write(f"{line}\n")


wait_for_databases(PATIENCE_SECONDS)
_FINCH = FinchConnect.from_env(
    ca_bundle=os.environ["THREATS_CA"],
    clock=_clock,
    on_event=_note,
    return_to="/settings",
    exchange_deadline=timedelta(seconds=20),
)


def _application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    request = Request(environ)
    if request.path != "/connect":
        return Response(str(os.getpid()))(environ, start_response)
    customer_id = request.args["customer"]
    begun = _FINCH.begin(customer_id=customer_id, customer_name="Acme", request=environ)
    return begun(environ, start_response)


logging.getLogger("gunicorn.access").addFilter(RedactCallback())

# A TLS connection and a database connection are open, and kept, when the workers are forked.
_FINCH.begin(customer_id="before-the-fork", customer_name="Acme")

app = FinchMiddleware(_application, _FINCH)
