"""
Finch over HTTPS: Connect sessions, the exchange of a code, introspection, disconnection.

This file decides what is sent, when it may be sent again, and what each response means; the
transport moves the bytes. Errors are raised from frames without a body or a parsed response,
so a traceback with its locals, and an error's causes, show no secret.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from importlib import metadata
from typing import Any

from finch_middleware.errors import (
    AlreadyConnected,
    BadResponse,
    CodeRejected,
    ExchangeAmbiguous,
    FinchFault,
    FinchRefused,
    FinchUnavailable,
)
from finch_middleware.finch.responses import (
    ConnectSession,
    FinchResponse,
    NoResponse,
    read_grant,
    storable,
)
from finch_middleware.finch.transport import Request, Transport
from finch_middleware.records import Grant
from finch_middleware.secret import Secret

API_VERSION = "2020-09-17"

#: The first errors of every application, by a word of Finch's undocumented message.
_ADVICE = {
    "redirect": "it concerns redirect_uri; it must be, to the letter, one of those registered on "
    "the Credentials tab of Finch's dashboard",
    "product": "it concerns products; each must be one that Finch publishes and that your "
    "dashboard includes",
}

_TRIES = 3
_PAUSE_SECONDS = 0.1

# A try with less than this share of the time would more likely end in doubt than with a token.
_SHARE_OF_A_TRY = 0.1


class FinchClient:
    """
    Finch's API for one application. Thread-safe; makes no I/O before the first call.

    Every call ends within *within*, retries and pauses included. A request is sent up to three
    times: if none of its bytes left this machine, or if the response is a 429 with a Retry-After
    that leaves enough time, by which Finch states that it did nothing. A 503 is retried likewise,
    except for an exchange: a proxy may send it after Finch issued a token.

    Every call but `exchange` raises FinchRefused where Finch does not accept what was sent, and
    FinchUnavailable for any other failure; another call is safe.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: Secret,
        api_url: str = "https://api.tryfinch.com",
        proxy: Secret | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        """*proxy* and *ca_bundle*: as `Transport` has them."""
        self._client_id = client_id
        self._client_secret = client_secret
        self.api_url = api_url
        self._transport = Transport(proxy=proxy, ca_bundle=ca_bundle)

    def create_session(self, fields: Mapping[str, object], *, within: timedelta) -> ConnectSession:
        """
        A new Connect session; *fields* as ``POST /connect/sessions`` documents them.

        Raises:
            AlreadyConnected: This customer already has a connection.
        """
        result = self._send(self._session_request("/connect/sessions", fields), within=within)
        if isinstance(result, FinchResponse) and (connected := _already_connected(result)):
            raise connected
        return _session(_accepted(result))

    def reauthenticate(self, fields: Mapping[str, object], *, within: timedelta) -> ConnectSession:
        """A session that renews a connection: ``POST /connect/sessions/reauthenticate``."""
        request = self._session_request("/connect/sessions/reauthenticate", fields)
        return _session(_accepted(self._send(request, within=within)))

    def exchange(self, code: Secret, *, redirect_uri: str | None, within: timedelta) -> Grant:
        """
        Exchange *code* for a grant. Once a byte of it has left, only a 429 lets it be sent again.

        *redirect_uri*: exactly the one that opened Connect; None in the embedded flow.

        Raises:
            FinchUnavailable: The code is unspent: no byte was sent, or Finch reported so.
            CodeRejected: Finch does not accept this code.
            ExchangeAmbiguous: Finch may have issued a token that was not received.
            BadResponse: The response does not follow Finch's API.
        """
        ended = _grant_or_fault(
            self._send(self._exchange_request(code, redirect_uri), within=within, again=(429,))
        )
        if isinstance(ended, Grant):
            return ended
        raise ended

    def introspect(self, token: Secret, *, within: timedelta) -> Mapping[str, object]:
        """Finch's description of the token's connection, ``GET /introspect``, unchecked."""
        request = self._request("GET", "/introspect", authorization=_bearer(token))
        response = _accepted(self._send(request, within=within))
        fields = response.fields()
        if not fields:
            raise FinchUnavailable("bad_response", **_evidence(response))
        return fields

    def disconnect(self, token: Secret, *, within: timedelta) -> bool:
        """
        End the token and its connection permanently, ``POST /disconnect``.

        True: Finch ended it now. False: Finch had ended this token before. After a
        FinchUnavailable whose reason is not ``unreachable``, Finch may have acted.
        """
        try:
            self._end("/disconnect", token, within=within)
        except FinchRefused as fault:
            ended = fault.status == 401 and fault.name == "invalid_token_error"
            if not ended or fault.finch_code == "reauthenticate_user":
                raise
            return False
        return True

    def disconnect_entities(
        self, token: Secret, entity_ids: Sequence[str], *, within: timedelta
    ) -> None:
        """End these entities of the token's connection, ``POST /disconnect-entity``."""
        self._end("/disconnect-entity", token, within=within, entity_ids=list(entity_ids))

    def _end(self, path: str, token: Secret, *, within: timedelta, **fields: object) -> None:
        """Return if Finch states that it ended what it was asked to end."""
        request = self._request("POST", path, authorization=_bearer(token), fields=fields or None)
        response = _accepted(self._send(request, within=within))
        # Another server's page with status 200 ends nothing.
        if response.fields().get("status") != "success":
            raise FinchUnavailable("bad_response", **_evidence(response))

    def _send(
        self, request: Request, *, within: timedelta, again: Collection[int] = (429, 503)
    ) -> FinchResponse | NoResponse:
        """The result of the last try; *again*: the statuses after which there is another."""
        ends = time.monotonic() + within.total_seconds()
        needed = within.total_seconds() * _SHARE_OF_A_TRY
        result = self._transport.send(request, ends=ends)
        for _ in range(_TRIES - 1):
            pause = _pause(result, again=again)
            if pause is None or time.monotonic() + pause + needed > ends:
                break
            time.sleep(pause)
            result = self._transport.send(request, ends=ends)
        return result

    def _request(
        self,
        method: str,
        path: str,
        *,
        authorization: Secret | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> Request:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Finch-API-Version": API_VERSION,
            "User-Agent": _user_agent(),
        }
        if authorization is not None:
            headers["Authorization"] = authorization.reveal()
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(dict(fields)).encode()
        return Request(method=method, url=self.api_url + path, headers=headers, body=body)

    def _session_request(self, path: str, fields: Mapping[str, object]) -> Request:
        pair = f"{self._client_id}:{self._client_secret.reveal()}"
        basic = Secret("Basic " + base64.b64encode(pair.encode()).decode())
        return self._request("POST", path, authorization=basic, fields=fields)

    def _exchange_request(self, code: Secret, redirect_uri: str | None) -> Request:
        fields: dict[str, object] = {
            "client_id": self._client_id,
            "client_secret": self._client_secret.reveal(),
            "code": code.reveal(),
        }
        if redirect_uri is not None:
            fields["redirect_uri"] = redirect_uri
        return self._request("POST", "/auth/token", fields=fields)


@functools.cache
def _user_agent() -> str:
    try:
        version = metadata.version("finch-middleware")
    except metadata.PackageNotFoundError:
        version = "uninstalled"
    return f"finch-middleware/{version}"


def _bearer(token: Secret) -> Secret:
    return Secret(f"Bearer {token.reveal()}")


# -- what a response means -------------------------------------------------------------------


def _pause(result: FinchResponse | NoResponse, *, again: Collection[int]) -> float | None:
    """Seconds until another try is allowed; None if it is not."""
    if isinstance(result, NoResponse):
        return _PAUSE_SECONDS if result.again else None
    return result.retry_after_seconds() if result.status in again else None


def _evidence(response: FinchResponse) -> dict[str, Any]:
    return {"status": response.status, "request_id": response.request_id}


def _not_acted(response: FinchResponse) -> FinchUnavailable | None:
    """The error for a response that states that Finch did nothing; None for any other."""
    if response.status == 401 and response.error_name().startswith("invalid_client"):
        return FinchUnavailable("client_rejected", **_evidence(response))
    if response.status == 402:
        return FinchUnavailable("payment_required", **_evidence(response))
    return _throttled(response) if response.status == 429 else None


def _throttled(response: FinchResponse) -> FinchUnavailable:
    wait = response.retry_after_seconds()
    retry_after = None if wait is None else math.ceil(wait)
    return FinchUnavailable("throttled", retry_after=retry_after, **_evidence(response))


def _grant_or_fault(result: FinchResponse | NoResponse) -> Grant | FinchFault:
    """The grant, or the error, that the last try of an exchange means."""
    if isinstance(result, NoResponse):
        return _lost(result.reason) if result.began else FinchUnavailable(result.reason)
    if not 200 <= result.status < 300:
        return _exchange_fault(result)
    grant = read_grant(result)
    return grant if isinstance(grant, Grant) else _lost(grant, **_evidence(result))


def _lost(reason: str, **evidence: Any) -> FinchFault:
    """The error for a grant that Finch may have sent, but that could not be read."""
    kind = ExchangeAmbiguous if reason in ("timeout", "reset") else BadResponse
    return kind(reason, **evidence)


def _exchange_fault(response: FinchResponse) -> FinchFault:
    if not_acted := _not_acted(response):
        return not_acted
    if response.status >= 500:
        return ExchangeAmbiguous("server_error", **_evidence(response))
    if 300 <= response.status < 400:
        return BadResponse("redirected", **_evidence(response))
    if response.status == 400 and response.error_name().startswith("invalid_grant"):
        return CodeRejected("invalid_grant", **_evidence(response))
    return BadResponse("refused", **_evidence(response))


def _accepted(result: FinchResponse | NoResponse) -> FinchResponse:
    """The response, if it is a success. For calls that may be repeated."""
    if isinstance(result, NoResponse):
        raise FinchUnavailable(result.reason)
    if not 200 <= result.status < 300:
        raise _fault(result)
    return result


def _fault(response: FinchResponse) -> FinchFault:
    if not_acted := _not_acted(response):
        return not_acted
    if response.status == 503 and response.retry_after_seconds() is not None:
        return _throttled(response)
    if response.status >= 500:
        return FinchUnavailable("server_error", **_evidence(response))
    if (name := response.error_name()) and 400 <= response.status < 500:
        return _refused(response, name=name)
    return FinchUnavailable("bad_response", **_evidence(response))


def _refused(response: FinchResponse, *, name: str) -> FinchRefused:
    message = response.error_message()
    words = message.reveal()
    advice = (text for word, text in _ADVICE.items() if re.search(word, words, re.IGNORECASE))
    return FinchRefused(
        "refused",
        name=name,
        finch_code=response.error_name("finch_code") or None,
        message=message,
        advice=next(advice, ""),
        **_evidence(response),
    )


def _already_connected(response: FinchResponse) -> AlreadyConnected | None:
    fields = response.fields() if response.status == 400 else {}
    context = fields.get("context")
    connection_id = storable(context.get("connection_id")) if isinstance(context, dict) else None
    if connection_id or fields.get("finch_code") == "connection_already_exists":
        return AlreadyConnected(connection_id=connection_id, request_id=response.request_id)
    return None


def _session(response: FinchResponse) -> ConnectSession:
    session = response.session()
    if session is None:
        raise FinchUnavailable("bad_response", **_evidence(response))
    return session
