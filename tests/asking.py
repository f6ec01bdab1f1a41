"""Requests to an odd server, through the transport alone or through Finch's client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from finch_middleware.errors import FinchFault
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.transport import FinchResponse, NoResponse, Request, Transport
from finch_middleware.records import Grant
from finch_middleware.secret import Secret
from tests.odd_server import OddServer, authority, raw_answer

T = TypeVar("T")

SECOND = timedelta(seconds=1)
#: Enough for every call that ends without its deadline, however busy the machine is.
LONG = 60 * SECOND
#: A call may outlast its deadline by this much on a busy machine; the odd servers take longer.
PATIENCE_SECONDS = 20

UNREACHABLE = NoResponse(began=False, reason="unreachable", again=True)
DISTRUSTED = NoResponse(began=False, reason="unreachable", again=False)
TIMEOUT = NoResponse(began=True, reason="timeout")
RESET = NoResponse(began=True, reason="reset")
TOO_LARGE = NoResponse(began=True, reason="too_large")


def ask(
    server: OddServer,
    *,
    within: timedelta = LONG,
    transport: Transport | None = None,
    body: bytes | None = b'{"code": "x"}',
    host: str = "127.0.0.1",
) -> FinchResponse | NoResponse:
    url = server.url.replace("127.0.0.1", host) + "/auth/token"
    headers = {"Accept-Encoding": "identity"}
    request = Request(method="POST" if body else "GET", url=url, headers=headers, body=body)
    transport = transport or Transport()
    start = time.perf_counter()
    result = transport.send(request, ends=time.monotonic() + within.total_seconds())
    assert time.perf_counter() - start < within.total_seconds() + PATIENCE_SECONDS
    return result


def first(call: Callable[[timedelta], T], *, reached: Callable[[T], bool]) -> T:
    """
    What *call* gives within the shortest deadline in which it reached what is tested.

    A busy machine may need more than the first ones to connect.
    """
    for seconds in (0.05, 0.2, 1, 5):
        result = call(seconds * SECOND)
        if reached(result):
            return result
    return call(20 * SECOND)


def began(result: FinchResponse | NoResponse) -> bool:
    return isinstance(result, FinchResponse) or result.began


def responded(result: FinchResponse | NoResponse) -> bool:
    return isinstance(result, FinchResponse)


def over_tls(server: OddServer) -> OddServer:
    """The same plain server, asked as if it spoke TLS."""
    server.url = server.url.replace("http:", "https:")
    return server


class StillClock:
    """
    `time.monotonic` of this process, and `time.sleep` of the thread that makes it.

    Only such a sleep or `move` passes time; another test's thread sleeps as it does elsewhere.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = time.monotonic()
        self._thread, self._elsewhere = threading.get_ident(), time.sleep
        self.slept: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self._now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def move(self, seconds: float) -> None:
        self._now += seconds

    def _sleep(self, seconds: float) -> None:
        if threading.get_ident() == self._thread:
            self.slept.append(seconds)
            self.move(seconds)
        else:
            self._elsewhere(seconds)


def answered(result: FinchResponse | NoResponse) -> FinchResponse:
    assert isinstance(result, FinchResponse), result
    return result


def trusting() -> Transport:
    """A transport that trusts the test's own authority alone."""
    return Transport(ca_bundle=str(authority().bundle))


# Whatever shows one of these has shown a secret.
CLIENT_SECRET = "canary-client-secret"
CODE = "canary-code"
TOKEN = "canary-token"
CANARY = "canary"

GRANT: dict[str, object] = {
    "access_token": TOKEN,
    "token_type": "bearer",
    "connection_id": "c0ffee00-0000-4000-8000-000000000001",
    "customer_id": "acme",
    "customer_name": "Acme Inc.",
    "client_type": "sandbox",
    "connection_type": "provider",
    "products": ["company", "directory"],
    "provider_id": "gusto",
    "entity_ids": ["e1"],
}


def api_of(server: OddServer, *, secret: str = CLIENT_SECRET, path: str = "") -> FinchClient:
    """Finch's API, played by *server*."""
    return FinchClient(
        client_id="client-1",
        client_secret=Secret(secret),
        api_url=server.url + path,
        ca_bundle=str(authority().bundle),
    )


def json_answer(value: object, *headers: str, status: str = "200 OK") -> bytes:
    """The bytes of an answer with this value as its JSON body."""
    return raw_answer(json.dumps(value).encode(), *headers, status=status)


def finch_error(status: str, name: str, *headers: str, **fields: object) -> bytes:
    """An error in the form that Finch documents. Its message repeats what it was sent."""
    body = {"code": int(status[:3]), "name": name, "message": f"{CODE} {CLIENT_SECRET}", **fields}
    return json_answer(body, *headers, status=status)


INVALID_CLIENT = finch_error("401 Unauthorized", "invalid_client_error")


def exchanged(
    api: FinchClient, *, redirect_uri: str | None = None, within: timedelta = LONG
) -> Grant:
    """The grant for the one code."""
    return api.exchange(Secret(CODE), redirect_uri=redirect_uri, within=within)


def fault_of(call: Callable[[], object]) -> FinchFault:
    """The error that *call* raises."""
    with pytest.raises(FinchFault) as caught:
        call()
    return caught.value
