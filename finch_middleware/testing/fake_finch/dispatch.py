"""One request: recorded, delayed, processed, and given the scripted response."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock

from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.api import Api, presented_code
from finch_middleware.testing.fake_finch.behaviour import Behaviour
from finch_middleware.testing.fake_finch.connect_page import ConnectPage
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import SeenRequest
from finch_middleware.testing.fake_finch.responses import (
    Refused,
    json_object,
    json_response,
    malformed,
)
from finch_middleware.testing.fake_finch.webhooks import Delivery

_ENDPOINTS = {
    "/connect/sessions": "sessions",
    "/connect/sessions/reauthenticate": "reauthenticate",
    "/auth/token": "token",
    "/introspect": "introspect",
    "/disconnect": "disconnect",
    "/disconnect-entity": "disconnect_entity",
    "/employer/company": "company",
    "/employer/directory": "directory",
    "/employer/individual": "individual",
    "/employer/employment": "employment",
    "/employer/payment": "payment",
    "/employer/pay-statement": "pay_statement",
    "/sandbox/connections": "sandbox_connections",
    "/sandbox/connections/accounts": "sandbox_accounts",
    "/sandbox/jobs": "sandbox_jobs",
    "/authorize": "authorize",
}
_LEDGER_PATH = "/_fake/ledger"
_STATUS_PATH = "/_fake/status"
_GATE_POLL_SECONDS = 0.01
#: In the environ: the headers as they arrived, (name, value) pairs.
RAW_HEADERS = "fake_finch.headers"


class Stopped(ConnectionError):
    """The server was stopped during this request."""


@dataclass(kw_only=True, eq=False, repr=False)
class Dispatch:
    """Finds the endpoint of a path, and the behaviour scripted for its next request."""

    ledger: Ledger
    api: Api
    page: ConnectPage
    set_status: Callable[..., Delivery | None]
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._scripts: dict[str, deque[tuple[Behaviour, int | None]]] = {}
        self._lock = Lock()

    def script(self, endpoint: str, behaviours: Iterable[Behaviour], *, times: int | None) -> None:
        """Queue *behaviours* for the next requests there, each *times* times."""
        if endpoint not in _ENDPOINTS.values():
            raise ValueError(f"no such endpoint: {endpoint}")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1, or None for no limit")
        with self._lock:
            queue = self._scripts.setdefault(endpoint, deque())
            queue.extend((behaviour, times) for behaviour in behaviours)

    def unscript(self, endpoint: str | None) -> None:
        with self._lock:
            if endpoint is None:
                self._scripts.clear()
            else:
                self._scripts.pop(endpoint, None)

    def respond(self, request: Request, stopping: Event) -> tuple[Response, Behaviour]:
        """The response, and how to send it; Stopped if *stopping* is set meanwhile."""
        if request.path == _LEDGER_PATH:
            return _identified(json_response(self.ledger.as_json())), Behaviour()
        if request.path == _STATUS_PATH:
            return _identified(self._changed_status(request)), Behaviour()
        endpoint = _ENDPOINTS.get(request.path, "unknown")
        self._record(request, endpoint=endpoint)
        behaviour = self._next_behaviour(endpoint)
        _wait(behaviour, stopping=stopping)
        response = json_response({})
        if behaviour.processed:
            page = endpoint == "authorize"
            response = self.page.respond(request) if page else self.api.respond(endpoint, request)
        return _identified(behaviour.shape(response)), behaviour

    def _changed_status(self, request: Request) -> Response:
        """
        `FakeFinch.set_status` with the arguments in the body, for another process.

        Without a connection_id it is the connection that a person allowed last.
        """
        try:
            given = json_object(request)
            named = given.pop("connection_id", None) or self.ledger.codes[-1].connection_id
            delivery = self.set_status(str(named), **given)
        except Refused as refused:
            return refused.response
        except (TypeError, ValueError, LookupError) as error:
            return malformed(f"{type(error).__name__}: {error}").response
        statuses = delivery.statuses if delivery is not None else ()
        return json_response({"delivered": list(statuses)})

    def _record(self, request: Request, *, endpoint: str) -> None:
        seen = SeenRequest(
            endpoint=endpoint,
            method=request.method,
            path=request.path,
            headers=request.environ[RAW_HEADERS],
            body=request.get_data(),
            at=self.clock(),
        )
        code = presented_code(request) if endpoint == "token" else None
        self.ledger.record_request(seen, code=code)

    def _next_behaviour(self, endpoint: str) -> Behaviour:
        with self._lock:
            queue = self._scripts.get(endpoint)
            if not queue:
                return Behaviour()
            behaviour, times = queue[0]
            if times == 1:
                queue.popleft()
            elif times is not None:
                queue[0] = behaviour, times - 1
            return behaviour


def _wait(behaviour: Behaviour, *, stopping: Event) -> None:
    if stopping.wait(behaviour.delay_seconds):
        raise Stopped
    while not behaviour.released:
        if stopping.wait(_GATE_POLL_SECONDS):
            raise Stopped


def _identified(response: Response) -> Response:
    response.headers["Finch-Request-Id"] = str(uuid.uuid4())
    return response
