"""
Finch over HTTPS: Connect sessions, the exchange of a code, introspect, disconnect.

What may be sent, when it may be sent again, and what each answer means. How bytes travel is
`transport`'s. Faults are raised from frames that hold no body and no parsed answer: a
traceback with its locals, and the error's causes, show no secret.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import time
from collections.abc import Mapping
from datetime import timedelta
from importlib import metadata
from typing import Any

from finch_middleware.errors import (
    AlreadyConnected,
    BadResponse,
    CodeRejected,
    ConfigurationError,
    ExchangeAmbiguous,
    FinchFault,
    FinchRefused,
    FinchUnavailable,
)
from finch_middleware.finch.responses import (
    ConnectSession,
    Grant,
    acceptable_url,
    error_name,
    read_fields,
    read_grant,
    read_session,
    request_id,
    retry_after_seconds,
    storable,
)
from finch_middleware.finch.transport import Deadline, FinchResponse, NoResponse, Request, Transport
from finch_middleware.secret import Secret

_API_VERSION = "2020-09-17"

_TRIES = 3
_PAUSE_SECONDS = 0.1

# A try that begins with less of the time than this would more likely make an unspent code
# an ambiguous one than bring its token.
_SHARE_OF_A_TRY = 0.1


class FinchClient:
    """
    Finch's API, as one client of it. Thread-safe; made without I/O, before a fork too.

    Every call ends at the latest when its *within* has passed, retries and their pauses
    included. Tried again, three times in all: what Finch provably never saw, and an answer
    429 or 503 with a Retry-After that leaves time for it. A 503 may be a proxy's, and Finch
    may have acted before it: after one only a grant ends an exchange with certainty.
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
        """
        Args:
            api_url: ``https://``, or ``http://`` for loopback alone.
            proxy: An ``http://`` proxy; those of the environment are not used.
            ca_bundle: A file of trusted certificates in place of certifi's; the environment's
                is not used. There is no way not to verify.

        Raises:
            ConfigurationError: api_url or proxy cannot be used.
        """
        if not acceptable_url(api_url) or set("?#@") & set(api_url):
            raise ConfigurationError(
                ["api_url is not an https:// URL; give one (http:// is for loopback alone)"]
            )
        self._client_id = client_id
        self._client_secret = client_secret
        self._api_url = api_url.rstrip("/")
        self._transport = Transport(proxy=proxy, ca_bundle=ca_bundle)

    def create_session(self, fields: Mapping[str, object], *, within: timedelta) -> ConnectSession:
        """
        A new Connect session; *fields* as ``POST /connect/sessions`` documents them.

        Raises:
            AlreadyConnected: This customer has a connection.
            FinchRefused: Finch does not accept these fields.
            FinchUnavailable: Any other end; asking again is safe.
        """
        result = self._ask(self._session_request("/connect/sessions", fields), within=within)
        if isinstance(result, FinchResponse) and (connected := _already_connected(result)):
            raise connected
        return _session(_accepted(result))

    def reauthenticate(self, fields: Mapping[str, object], *, within: timedelta) -> ConnectSession:
        """
        A Connect session that renews a connection: ``POST /connect/sessions/reauthenticate``.

        Raises:
            FinchRefused: Finch does not accept these fields.
            FinchUnavailable: Any other end; asking again is safe.
        """
        request = self._session_request("/connect/sessions/reauthenticate", fields)
        return _session(_accepted(self._ask(request, within=within)))

    def exchange(self, code: Secret, *, redirect_uri: str | None, within: timedelta) -> Grant:
        """
        The grant that *code* stands for. Presented once; never again by itself once begun.

        Args:
            redirect_uri: Exactly the one that opened Connect; None in the embedded flow.

        Raises:
            FinchUnavailable: The code is unspent: no byte was sent, or Finch said so.
            CodeRejected: Finch does not take this code.
            ExchangeAmbiguous: Finch may have minted a token that was not seen.
            BadResponse: Something answered that does not speak Finch's API.
        """
        *earlier, result = self._tries(self._exchange_request(code, redirect_uri), within=within)
        granted = _granted(result)
        if isinstance(granted, Grant):
            return granted
        raise _doubted(granted) if any(map(_busy, earlier)) else granted

    def introspect(self, token: Secret, *, within: timedelta) -> Mapping[str, object]:
        """
        What Finch knows of the token's connection, ``GET /introspect``; its form is not checked.

        Raises:
            FinchRefused: Finch does not take this token (any more).
            FinchUnavailable: Any other end; asking again is safe.
        """
        request = self._request("GET", "/introspect", authorization=_bearer(token))
        answer = _accepted(self._ask(request, within=within))
        fields = read_fields(answer)
        if fields is None:
            raise FinchUnavailable("bad_response", **_evidence(answer))
        return fields

    def disconnect(self, token: Secret, *, within: timedelta) -> None:
        """
        End the token and its connection for good, ``POST /disconnect``.

        Raises:
            FinchRefused: Finch does not take this token (any more).
            FinchUnavailable: Any other end. Finch may have acted if the reason is not
                ``unreachable``; asking again is safe.
        """
        request = self._request("POST", "/disconnect", authorization=_bearer(token))
        answer = _accepted(self._ask(request, within=within))
        # A proxy's friendly page must not pass for the end of a connection.
        if (read_fields(answer) or {}).get("status") != "success":
            raise FinchUnavailable("bad_response", **_evidence(answer))

    def _ask(self, request: Request, *, within: timedelta) -> FinchResponse | NoResponse:
        return self._tries(request, within=within)[-1]

    def _tries(self, request: Request, *, within: timedelta) -> list[FinchResponse | NoResponse]:
        """What each try came to; the last one counts."""
        deadline = Deadline(within)
        needed = within.total_seconds() * _SHARE_OF_A_TRY
        results = [self._transport.send(request, deadline=deadline)]
        for _ in range(_TRIES - 1):
            pause = _pause(results[-1])
            if pause is None or pause + needed > deadline.left():
                break
            time.sleep(pause)
            results.append(self._transport.send(request, deadline=deadline))
        return results

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
            "Finch-API-Version": _API_VERSION,
            "User-Agent": _user_agent(),
        }
        if authorization is not None:
            headers["Authorization"] = authorization.reveal()
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(dict(fields)).encode()
        return Request(method=method, url=self._api_url + path, headers=headers, body=body)

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


# -- the client's own side -----------------------------------------------------------------


@functools.cache
def _user_agent() -> str:
    try:
        version = metadata.version("finch-middleware")
    except metadata.PackageNotFoundError:
        version = "uninstalled"
    return f"finch-middleware/{version}"


def _bearer(token: Secret) -> Secret:
    return Secret(f"Bearer {token.reveal()}")


# -- what an answer means --------------------------------------------------------------------


def _pause(result: FinchResponse | NoResponse) -> float | None:
    """Seconds after which another try is allowed; None where it is not."""
    if isinstance(result, NoResponse):
        return _PAUSE_SECONDS if result.again else None
    return retry_after_seconds(result) if result.status in (429, 503) else None


def _busy(result: FinchResponse | NoResponse) -> bool:
    return isinstance(result, FinchResponse) and result.status == 503


def _evidence(answer: FinchResponse) -> dict[str, Any]:
    return {"status": answer.status, "request_id": request_id(answer)}


def _not_acted(answer: FinchResponse) -> FinchUnavailable | None:
    """The error for an answer in which Finch says that it did nothing."""
    if answer.status == 401 and error_name(answer).startswith("invalid_client"):
        return FinchUnavailable("client_rejected", **_evidence(answer))
    if answer.status == 402:
        return FinchUnavailable("payment_required", **_evidence(answer))
    return _throttled(answer) if answer.status == 429 else None


def _throttled(answer: FinchResponse) -> FinchUnavailable:
    wait = retry_after_seconds(answer)
    retry_after = None if wait is None else math.ceil(wait)
    return FinchUnavailable("throttled", retry_after=retry_after, **_evidence(answer))


def _granted(result: FinchResponse | NoResponse) -> Grant | FinchFault:
    """The grant, or the error that the last try of an exchange stands for by itself."""
    if isinstance(result, NoResponse):
        return _exchange_unanswered(result)
    if not 200 <= result.status < 300:
        return _exchange_fault(result)
    grant = read_grant(result)
    return grant if isinstance(grant, Grant) else _exchange_unread(result, reason=grant)


def _doubted(fault: FinchFault) -> ExchangeAmbiguous:
    """The same end where an earlier try may have spent the code, and brought a token to nobody."""
    return ExchangeAmbiguous(fault.reason, status=fault.status, request_id=fault.request_id)


def _exchange_unanswered(result: NoResponse) -> FinchFault:
    if not result.began:
        return FinchUnavailable(result.reason)
    if result.reason == "too_large":
        return BadResponse(result.reason)
    return ExchangeAmbiguous(result.reason)


def _exchange_fault(answer: FinchResponse) -> FinchFault:
    if not_acted := _not_acted(answer):
        return not_acted
    if answer.status >= 500:
        return ExchangeAmbiguous("server_error", **_evidence(answer))
    if 300 <= answer.status < 400:
        return BadResponse("redirected", **_evidence(answer))
    if answer.status == 400 and error_name(answer).startswith("invalid_grant"):
        return CodeRejected("invalid_grant", **_evidence(answer))
    return BadResponse("refused", **_evidence(answer))


def _exchange_unread(answer: FinchResponse, *, reason: str) -> FinchFault:
    if reason in ("timeout", "reset"):
        return ExchangeAmbiguous(reason, **_evidence(answer))
    return BadResponse(reason, **_evidence(answer))


def _accepted(result: FinchResponse | NoResponse) -> FinchResponse:
    """The answer, if it is Finch's yes to a call that may be repeated."""
    if isinstance(result, NoResponse):
        raise FinchUnavailable(result.reason)
    if not 200 <= result.status < 300:
        raise _fault(result)
    return result


def _fault(answer: FinchResponse) -> FinchFault:
    if not_acted := _not_acted(answer):
        return not_acted
    if _busy(answer) and retry_after_seconds(answer) is not None:
        return _throttled(answer)
    if answer.status >= 500:
        return FinchUnavailable("server_error", **_evidence(answer))
    if (name := error_name(answer)) and 400 <= answer.status < 500:
        return FinchRefused("refused", name=name, **_evidence(answer))
    return FinchUnavailable("bad_response", **_evidence(answer))


def _already_connected(answer: FinchResponse) -> AlreadyConnected | None:
    fields = (read_fields(answer) or {}) if answer.status == 400 else {}
    context = fields.get("context")
    connection_id = context.get("connection_id") if isinstance(context, dict) else None
    if isinstance(connection_id, str) and storable(connection_id):
        return AlreadyConnected(connection_id=connection_id, request_id=request_id(answer))
    if fields.get("finch_code") == "connection_already_exists":
        return AlreadyConnected(connection_id=None, request_id=request_id(answer))
    return None


def _session(answer: FinchResponse) -> ConnectSession:
    session = read_session(answer)
    if session is None:
        raise FinchUnavailable("bad_response", **_evidence(answer))
    return session
