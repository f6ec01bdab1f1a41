"""The calls that an application's server makes to Finch, as Finch documents them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.access import Access
from finch_middleware.testing.fake_finch.accounts import Account, derived_id
from finch_middleware.testing.fake_finch.data import CALLS, data_response
from finch_middleware.testing.fake_finch.fields import (
    DISCONNECT_ENTITY_FIELDS,
    REAUTHENTICATE_FIELDS,
    SESSION_FIELDS,
    TOKEN_FIELDS,
)
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import IssuedCode, OpenedSession
from finch_middleware.testing.fake_finch.responses import (
    Refused,
    authentication_error,
    error_response,
    json_object,
    json_response,
    malformed,
)
from finch_middleware.testing.fake_finch.rules import Rules
from finch_middleware.testing.fake_finch.sandbox import Sandbox

API_VERSION = "2020-09-17"
#: 30 days, the default that re-authentication documents. Sessions have had several.
_DEFAULT_MINUTES = 43_200


class Api:
    """Finch's API. Refusals are responses too."""

    def __init__(
        self,
        rules: Rules,
        *,
        ledger: Ledger,
        connect_origin: Callable[[], str],
        changed: Callable[[str, str, str | None], None],
    ) -> None:
        """*changed* gets a connection's id, its new status, and the entity's id if it is one's."""
        self._rules = rules
        self._ledger = ledger
        self._connect_origin = connect_origin
        self._changed = changed
        self._access = access = Access(rules=rules, ledger=ledger)
        sandbox = Sandbox(access=access, ledger=ledger, clock=rules.clock, changed=changed)
        self._calls: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("POST", "sessions"): self._sessions,
            ("POST", "reauthenticate"): self._reauthenticate,
            ("POST", "token"): self._token,
            ("GET", "introspect"): self._introspect,
            ("POST", "disconnect"): self._disconnect,
            ("POST", "disconnect_entity"): self._disconnect_entity,
            ("POST", "sandbox_connections"): sandbox.connect,
            ("POST", "sandbox_accounts"): sandbox.connect_account,
            ("PUT", "sandbox_accounts"): sandbox.set_status,
            ("POST", "sandbox_jobs"): sandbox.start_job,
        }
        batches = ("individual", "employment", "pay_statement")
        for call in CALLS:
            method = "POST" if call in batches else "GET"
            self._calls[method, call] = partial(self._data, call)

    def respond(self, endpoint: str, request: Request) -> Response:
        """Finch's response."""
        allowed = [method for method, name in self._calls if name == endpoint]
        if not allowed:
            return error_response(404, message="no such path")
        if request.method not in allowed:
            return error_response(405, message=f"use {' or '.join(allowed)}")
        if request.headers.get("Finch-API-Version") != API_VERSION:
            return malformed(f"Finch-API-Version must be {API_VERSION}").response
        try:
            return self._calls[request.method, endpoint](request)
        except Refused as refusal:
            return refusal.response

    def _sessions(self, request: Request) -> Response:
        self._access.require_client(request)
        fields = self._access.fields(request, SESSION_FIELDS)
        self._check_redirect_uri(fields)
        provider_id = (fields.get("integration") or {}).get("provider")
        if existing := self._existing(fields["customer_id"], provider_id):
            context: dict[str, Any] = {"context": {"connection_id": existing}}
            return error_response(
                400,
                message="this customer has a connection",
                finch_code="connection_already_exists",
                **(context if self._rules.unknowns.refusal_names_connection else {}),
            )
        return self._open(
            fields,
            customer_id=fields["customer_id"],
            customer_name=fields["customer_name"],
            products=tuple(fields["products"]),
            provider_id=provider_id,
            sandbox=fields.get("sandbox") is not None,
            connection_id=None,
        )

    def _existing(self, customer_id: str, provider_id: str | None) -> str | None:
        if self._rules.unknowns.connected_customer == "refused":
            return self._ledger.connection_of_customer(customer_id)
        if provider_id is None:
            return None
        return self._ledger.connection_of_customer(customer_id, provider_id=provider_id)

    def _reauthenticate(self, request: Request) -> Response:
        self._access.require_client(request)
        fields = self._access.fields(request, REAUTHENTICATE_FIELDS)
        self._check_redirect_uri(fields)
        existing = self._ledger.connection(fields["connection_id"])
        if existing is None:
            raise Refused(error_response(404, message="no such connection"))
        return self._open(
            fields,
            customer_id=existing.customer_id,
            customer_name=existing.customer_name,
            products=tuple(fields.get("products") or existing.products),
            provider_id=existing.provider_id,
            sandbox=existing.sandbox,
            connection_id=existing.connection_id,
        )

    def _open(self, fields: dict[str, Any], **facts: Any) -> Response:
        now = self._rules.clock()
        minutes = fields.get("minutes_to_expire") or _DEFAULT_MINUTES
        session = OpenedSession(
            session_id=str(uuid.uuid4()),
            redirect_uri=fields.get("redirect_uri"),
            opened_at=now,
            expires_at=now + timedelta(minutes=minutes),
            fields=fields,
            **facts,
        )
        self._ledger.open_session(session)
        url = f"{self._connect_origin()}/authorize?session={session.session_id}"
        return json_response({"session_id": session.session_id, "connect_url": url}, status=201)

    def _token(self, request: Request) -> Response:
        if "Authorization" in request.headers:
            self._ledger.note("token: an Authorization header beside the body")
        fields = self._access.fields(request, TOKEN_FIELDS)
        if not self._access.is_client(fields["client_id"], fields["client_secret"]):
            raise Refused(error_response(401, name="invalid_client_error"))
        issued = self._ledger.code(fields["code"])
        if issued is None or fields.get("redirect_uri") != issued.redirect_uri:
            raise _invalid_grant()
        dies = issued.reauthenticates and self._rules.unknowns.old_token == "dies"
        token = self._ledger.mint(issued.code, at=self._rules.clock(), ends_older=dies)
        if token is None:
            raise _invalid_grant()
        facts = self._ledger.facts(issued)
        if issued.reauthenticates and self._rules.unknowns.reauthenticated_customer == "null":
            facts |= {"customer_id": None, "customer_name": None}
        return json_response({"access_token": token, "token_type": "bearer", **facts})

    def _introspect(self, request: Request) -> Response:
        token, granted = self._access.require_token(request)
        account = self._account(granted)
        synced = account.last_successful_sync
        state = {
            "status": account.status,
            "message": account.message,
            "last_successful_sync": synced.isoformat() if synced else None,
        }
        facts = self._ledger.facts(granted)
        del facts["entity_ids"]
        return json_response(
            {
                "id": derived_id(token, "token"),
                "client_id": self._rules.client_id,
                "connection_status": state,
                "customer_email": None,
                "authentication_methods": [{"type": "credential", "connection_status": state}],
                "entities": [
                    {"id": e.id, "name": e.name, "source_id": e.source_id, "status": e.status}
                    for e in account.entities
                ],
                **facts,
            }
        )

    def _disconnect(self, request: Request) -> Response:
        _, granted = self._access.require_token(request)
        account = self._account(granted)
        self._ledger.disconnect(granted.connection_id)
        events: dict[str, tuple[str | None, ...]] = {
            "nothing": (),
            "one": (None,),
            "one per entity": account.entity_ids,
        }
        for entity_id in events[self._rules.unknowns.disconnect_sends]:
            self._changed(granted.connection_id, "disconnected", entity_id)
        return json_response({"status": "success"})

    def _account(self, granted: IssuedCode) -> Account:
        """The account for a call about the token, which may need a person to sign in again."""
        account = self._ledger.accounts.get(granted.connection_id)
        if account.status == "reauth" and self._rules.unknowns.reauth == "refused":
            raise authentication_error("reauthenticate_user")
        return account

    def _disconnect_entity(self, request: Request) -> Response:
        _, granted = self._access.require_token(request)
        entity_ids = self._access.fields(request, DISCONNECT_ENTITY_FIELDS)["entity_ids"]
        accounts = self._ledger.accounts
        if not set(entity_ids) <= set(accounts.get(granted.connection_id).entity_ids):
            raise malformed("entity_ids: not all are of this connection")
        for entity_id in entity_ids:
            accounts.set_status(
                granted.connection_id, "disconnected", entity_id=entity_id, message=None
            )
            self._changed(granted.connection_id, "disconnected", entity_id)
        return json_response({"status": "success"})

    def _data(self, call: str, request: Request) -> Response:
        _, granted = self._access.require_token(request)
        account = self._ledger.accounts.get(granted.connection_id)
        response = data_response(call, request, granted=granted, account=account)
        self._ledger.accounts.synced(granted.connection_id, at=self._rules.clock())
        return response

    def _check_redirect_uri(self, fields: Mapping[str, Any]) -> None:
        redirect_uri = fields.get("redirect_uri")
        if redirect_uri is not None and not self._rules.permits(redirect_uri):
            raise malformed("redirect_uri: not registered; http://localhost… or https://…")


def presented_code(request: Request) -> str | None:
    """The code in a request to the token endpoint, even if the request is malformed."""
    try:
        code = json_object(request).get("code")
    except Refused:
        return None
    return code if isinstance(code, str) else None


def _invalid_grant() -> Refused:
    return Refused(error_response(400, name="invalid_grant_error"))
