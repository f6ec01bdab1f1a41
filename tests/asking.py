"""Asking an odd server, through the transport alone or as Finch's API."""

from __future__ import annotations

import json
from datetime import timedelta

from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import Grant
from finch_middleware.finch.transport import Deadline, FinchResponse, NoResponse, Request, Transport
from finch_middleware.secret import Secret
from tests.odd_server import OddServer, authority, raw_answer

SECOND = timedelta(seconds=1)
SLACK_SECONDS = 0.25

UNREACHABLE = NoResponse(began=False, reason="unreachable", again=True)
DISTRUSTED = NoResponse(began=False, reason="unreachable", again=False)
TIMEOUT = NoResponse(began=True, reason="timeout")
RESET = NoResponse(began=True, reason="reset")
TOO_LARGE = NoResponse(began=True, reason="too_large")


def ask(
    server: OddServer,
    *,
    within: timedelta = 5 * SECOND,
    transport: Transport | None = None,
    body: bytes | None = b'{"code": "x"}',
    host: str = "127.0.0.1",
) -> FinchResponse | NoResponse:
    url = server.url.replace("127.0.0.1", host) + "/auth/token"
    headers = {"Accept-Encoding": "identity"}
    request = Request(method="POST" if body else "GET", url=url, headers=headers, body=body)
    return (transport or Transport()).send(request, deadline=Deadline(within))


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
    api: FinchClient, *, redirect_uri: str | None = None, within: timedelta = 5 * SECOND
) -> Grant:
    """The grant for the one code."""
    return api.exchange(Secret(CODE), redirect_uri=redirect_uri, within=within)
