"""The calls that an application's server makes to Finch, as Finch documents them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.fields import (
    REAUTHENTICATE_FIELDS,
    SESSION_FIELDS,
    TOKEN_FIELDS,
    Field,
)
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import IssuedCode, OpenedSession
from finch_middleware.testing.fake_finch.responses import Refused, error_response, json_response

API_VERSION = "2020-09-17"
#: 30 days, the default that re-authentication documents. Sessions have had several.
_DEFAULT_MINUTES = 43_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """An application's settings at Finch, and the behaviour that Finch does not document."""

    client_id: str
    client_secret: str
    redirect_uris: frozenset[str] | None
    echo_state: bool
    clock: Callable[[], datetime]

    def permits(self, redirect_uri: object) -> bool:
        """Whether it is registered; with no registration, ``http://localhost…`` or ``https://…``."""
        if not isinstance(redirect_uri, str):
            return False
        if self.redirect_uris is not None:
            return redirect_uri in self.redirect_uris
        if not re.fullmatch(r"[!-~]+", redirect_uri) or "#" in redirect_uri:
            return False
        parts = urlsplit(redirect_uri)
        return (parts.scheme == "http" and parts.hostname == "localhost") or (
            parts.scheme == "https" and bool(parts.hostname)
        )


class Api:
    """Finch's API. Refusals are responses too."""

    def __init__(self, rules: Rules, *, ledger: Ledger, connect_origin: Callable[[], str]) -> None:
        self._rules = rules
        self._ledger = ledger
        self._connect_origin = connect_origin
        self._calls: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "sessions": ("POST", self._sessions),
            "reauthenticate": ("POST", self._reauthenticate),
            "token": ("POST", self._token),
            "introspect": ("GET", self._introspect),
            "disconnect": ("POST", self._disconnect),
        }

    def respond(self, endpoint: str, request: Request) -> Response:
        """Finch's response."""
        if endpoint not in self._calls:
            return error_response(404, message="no such path")
        method, call = self._calls[endpoint]
        if request.method != method:
            return error_response(405, message=f"use {method}")
        if request.headers.get("Finch-API-Version") != API_VERSION:
            return _malformed(f"Finch-API-Version must be {API_VERSION}").response
        try:
            return call(request)
        except Refused as refusal:
            return refusal.response

    def _sessions(self, request: Request) -> Response:
        self._require_client(request)
        fields = _json_object(request)
        _check(fields, against=SESSION_FIELDS)
        self._check_redirect_uri(fields)
        existing = self._ledger.connection_of_customer(fields["customer_id"])
        if existing is not None:
            return error_response(
                400,
                message="this customer has a connection",
                finch_code="connection_already_exists",
                context={"connection_id": existing},
            )
        return self._open(
            fields,
            customer_id=fields["customer_id"],
            customer_name=fields["customer_name"],
            products=tuple(fields["products"]),
            provider_id=(fields.get("integration") or {}).get("provider"),
            sandbox=fields.get("sandbox") is not None,
            connection_id=None,
        )

    def _reauthenticate(self, request: Request) -> Response:
        self._require_client(request)
        fields = _json_object(request)
        _check(fields, against=REAUTHENTICATE_FIELDS)
        self._check_redirect_uri(fields)
        existing = self._ledger.connection(fields["connection_id"])
        if existing is None:
            raise Refused(error_response(404, message="no such connection"))
        return self._open(
            fields,
            customer_id=existing.customer_id,
            customer_name=existing.customer_name,
            products=tuple(fields.get("products", existing.products)),
            provider_id=existing.provider_id,
            sandbox=existing.sandbox,
            connection_id=existing.connection_id,
        )

    def _open(self, fields: dict[str, Any], **facts: Any) -> Response:
        now = self._rules.clock()
        session = OpenedSession(
            session_id=str(uuid.uuid4()),
            redirect_uri=fields.get("redirect_uri"),
            opened_at=now,
            expires_at=now + timedelta(minutes=fields.get("minutes_to_expire", _DEFAULT_MINUTES)),
            fields=fields,
            **facts,
        )
        self._ledger.open_session(session)
        url = f"{self._connect_origin()}/authorize?session={session.session_id}"
        return json_response({"session_id": session.session_id, "connect_url": url}, status=201)

    def _token(self, request: Request) -> Response:
        if "Authorization" in request.headers:
            raise Refused(error_response(401, name="invalid_request_error"))
        fields = _json_object(request)
        _check(fields, against=TOKEN_FIELDS)
        if not self._is_client(fields["client_id"], fields["client_secret"]):
            raise Refused(error_response(401, name="invalid_client_error"))
        issued = self._ledger.code(fields["code"])
        if issued is None or fields.get("redirect_uri") != issued.redirect_uri:
            raise _invalid_grant()
        token = self._ledger.mint(issued.code, at=self._rules.clock())
        if token is None:
            raise _invalid_grant()
        return json_response({"access_token": token, "token_type": "bearer", **_facts(issued)})

    def _introspect(self, request: Request) -> Response:
        granted = self._require_token(request)
        facts = _facts(granted)
        entities = [{"id": each, "status": "connected"} for each in facts.pop("entity_ids")]
        return json_response(
            {
                "id": granted.connection_id,
                "client_id": self._rules.client_id,
                "connection_status": {"status": "connected"},
                "customer_email": None,
                "authentication_methods": [{"type": "credential"}],
                "entities": entities,
                **facts,
            }
        )

    def _disconnect(self, request: Request) -> Response:
        self._ledger.disconnect(self._require_token(request).connection_id)
        return json_response({"status": "success"})

    def _require_client(self, request: Request) -> None:
        given = request.authorization
        if given is None or given.type != "basic":
            raise Refused(error_response(401, name="invalid_client_error"))
        if not self._is_client(given.username or "", given.password or ""):
            raise Refused(error_response(401, name="invalid_client_error"))

    def _is_client(self, client_id: str, client_secret: str) -> bool:
        return (client_id, client_secret) == (self._rules.client_id, self._rules.client_secret)

    def _require_token(self, request: Request) -> IssuedCode:
        given = request.authorization
        token = given.token if given is not None and given.type == "bearer" else None
        granted = self._ledger.holder(token or "")
        if granted is None:
            name = "invalid_token_error" if token else "unauthorized_request_error"
            raise Refused(error_response(401, name=name))
        return granted

    def _check_redirect_uri(self, fields: Mapping[str, Any]) -> None:
        if "redirect_uri" in fields and not self._rules.permits(fields["redirect_uri"]):
            raise _malformed("redirect_uri: not registered; http://localhost… or https://…")


def presented_code(request: Request) -> str | None:
    """The code in a request to the token endpoint, even if the request is malformed."""
    try:
        code = _json_object(request).get("code")
    except Refused:
        return None
    return code if isinstance(code, str) else None


def _facts(issued: IssuedCode) -> dict[str, Any]:
    stable = uuid.UUID(issued.connection_id)
    return {
        "connection_id": issued.connection_id,
        "customer_id": issued.customer_id,
        "customer_name": issued.customer_name,
        "account_id": str(uuid.uuid5(stable, "account")),
        "company_id": str(uuid.uuid5(stable, "company")),
        "client_type": "sandbox" if issued.sandbox else "production",
        "connection_type": "provider",
        "products": list(issued.products),
        "provider_id": issued.provider_id,
        "entity_ids": [str(uuid.uuid5(stable, "entity"))],
    }


def _json_object(request: Request) -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise _malformed("Content-Type must be application/json")
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise _malformed("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _malformed("the body is not an object")
    return fields


def _check(fields: Mapping[str, Any], *, against: Mapping[str, Field]) -> None:
    for name, field in against.items():
        if name not in fields and not field.required:
            continue
        if name not in fields or not field.admits(fields[name]):
            raise _malformed(f"{name}: {field.words}")


def _malformed(message: str) -> Refused:
    return Refused(error_response(400, message=message, finch_code="invalid_request"))


def _invalid_grant() -> Refused:
    return Refused(error_response(400, name="invalid_grant_error"))
