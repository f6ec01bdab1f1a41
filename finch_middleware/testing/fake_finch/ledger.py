"""What the fake received, and which codes and tokens it issued."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections import Counter
from datetime import datetime
from threading import Condition
from typing import Any

from finch_middleware.testing.fake_finch.accounts import Accounts
from finch_middleware.testing.fake_finch.records import (
    IssuedCode,
    OpenedSession,
    SeenRequest,
    shown,
)
from finch_middleware.testing.fake_finch.webhooks import Delivery


class Ledger:
    """
    Everything that the fake knows. Any thread may read it at any time.

    Attributes:
        accounts: The connections' entities and states.
    """

    def __init__(self) -> None:
        self.accounts = Accounts()
        self._changed = Condition()
        self._deliveries: list[Delivery] = []
        self._notes: list[str] = []
        self._requests: list[SeenRequest] = []
        self._calls: Counter[str] = Counter()
        self._sessions: dict[str, OpenedSession] = {}
        self._codes: dict[str, IssuedCode] = {}
        self._presented: Counter[str] = Counter()
        self._tokens: list[str] = []
        self._live: dict[str, IssuedCode] = {}
        self._connections: dict[str, IssuedCode] = {}
        self._connection_ids: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        return f"<Ledger: {len(self._requests)} requests, {len(self._tokens)} tokens>"

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """Every request, the oldest first."""
        with self._changed:
            return tuple(self._requests)

    @property
    def sessions(self) -> tuple[OpenedSession, ...]:
        """Every Connect session, the oldest first."""
        with self._changed:
            return tuple(self._sessions.values())

    @property
    def codes(self) -> tuple[IssuedCode, ...]:
        """Every code that was issued, the oldest first."""
        with self._changed:
            return tuple(self._with_count(issued) for issued in self._codes.values())

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every issued token, the oldest first, ended ones included."""
        with self._changed:
            return tuple(self._tokens)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Every webhook that was sent, the oldest first."""
        with self._changed:
            return tuple(self._deliveries)

    @property
    def notes(self) -> tuple[str, ...]:
        """What clients sent that Finch does not document, and that the fake tolerated."""
        with self._changed:
            return tuple(self._notes)

    def calls(self, endpoint: str) -> int:
        """The number of requests to *endpoint*."""
        with self._changed:
            return self._calls[endpoint]

    def presented(self, code: str) -> int:
        """How often *code*, issued or not, was presented to the token endpoint."""
        with self._changed:
            return self._presented[code]

    def minted(self, code: str) -> tuple[str, ...]:
        """The tokens that were issued for *code*."""
        with self._changed:
            issued = self._codes.get(code)
            return issued.minted if issued else ()

    def code(self, code: str) -> IssuedCode | None:
        """The record of *code*; None if it was never issued."""
        with self._changed:
            issued = self._codes.get(code)
            return self._with_count(issued) if issued else None

    def wait_for_calls(self, endpoint: str, *, count: int = 1, timeout_seconds: float = 60) -> None:
        """
        Return once *endpoint* has received *count* requests, waiting ones included.

        Raises:
            TimeoutError: Fewer arrived in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._calls[endpoint] >= count, timeout_seconds):
                arrived = self._calls[endpoint]
                raise TimeoutError(f"{arrived} of {count} requests arrived at {endpoint}")

    def wait_for_deliveries(self, count: int, *, timeout_seconds: float = 60) -> None:
        """
        Return once *count* webhooks were sent and responded to.

        Raises:
            TimeoutError: There were fewer in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._deliveries) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self._deliveries)} of {count} webhooks were sent")

    def as_json(self) -> dict[str, object]:
        """The ledger for another process: tokens as SHA-256 in hex, no headers, no bodies."""
        with self._changed:
            return {
                "calls": dict(self._calls),
                "sessions": [*map(shown, self.sessions)],
                "codes": [{"code": each.code, **shown(each)} for each in self.codes],
                "tokens": [hashlib.sha256(each.encode()).hexdigest() for each in self._tokens],
                "requests": [*map(shown, self._requests)],
                "notes": list(self._notes),
            }

    def record_request(self, request: SeenRequest, *, code: str | None) -> None:
        with self._changed:
            self._requests.append(request)
            self._calls[request.endpoint] += 1
            if code is not None:
                self._presented[code] += 1
            self._changed.notify_all()

    def record_delivery(self, delivery: Delivery) -> None:
        with self._changed:
            self._deliveries.append(delivery)
            self._changed.notify_all()

    def note(self, text: str) -> None:
        with self._changed:
            self._notes.append(text)

    def open_session(self, session: OpenedSession) -> None:
        with self._changed:
            self._sessions[session.session_id] = session

    def session(self, session_id: str) -> OpenedSession | None:
        with self._changed:
            return self._sessions.get(session_id)

    def issue(self, *, customer_id: str, provider_id: str, **facts: Any) -> IssuedCode:
        """A new code for the customer's connection at that provider."""
        facts |= {"customer_id": customer_id, "provider_id": provider_id}
        with self._changed:
            connection_id = self.connection_id_of(customer_id, provider_id=provider_id)
            issued = IssuedCode(code=str(uuid.uuid4()), connection_id=connection_id, **facts)
            self._codes[issued.code] = issued
        return issued

    def connection_id_of(self, customer_id: str, *, provider_id: str) -> str:
        """The one connection_id of a customer at a provider, until it is disconnected."""
        with self._changed:
            providers = self._connection_ids.setdefault(customer_id, {})
            return providers.setdefault(provider_id, str(uuid.uuid4()))

    def mint(self, code: str, *, at: datetime, ends_older: bool = False) -> str | None:
        """
        A token for *code*; None if the code is unknown, expired or used.

        With *ends_older*, the connection's older tokens end.
        """
        with self._changed:
            issued = self._codes.get(code)
            if issued is None or issued.minted or at >= issued.expires_at:
                return None
            if ends_older:
                self._end_tokens(issued.connection_id)
            token = str(uuid.uuid4())
            issued = dataclasses.replace(issued, minted=(token,))
            self._codes[code] = self._live[token] = issued
            self._connections[issued.connection_id] = issued
            self._tokens.append(token)
            return token

    def holder(self, token: str) -> IssuedCode | None:
        """The record behind a token; None if unknown or disconnected."""
        with self._changed:
            return self._live.get(token)

    def connection(self, connection_id: str) -> IssuedCode | None:
        """The newest record of a current connection."""
        with self._changed:
            return self._connections.get(connection_id)

    def connection_of_customer(
        self, customer_id: str, *, provider_id: str | None = None
    ) -> str | None:
        """The id of a current connection of this customer, at that provider if one is named."""
        with self._changed:
            for provider, connection_id in self._connection_ids.get(customer_id, {}).items():
                if connection_id in self._connections and provider_id in (None, provider):
                    return connection_id
            return None

    def disconnect(self, connection_id: str) -> None:
        with self._changed:
            ended = self._connections.pop(connection_id, None)
            if ended is None:
                return
            own = self._connection_ids[ended.customer_id]
            if own.get(ended.provider_id) == connection_id:
                del own[ended.provider_id]
            self._end_tokens(connection_id)

    def facts(self, issued: IssuedCode) -> dict[str, Any]:
        """What Finch reports about a connection beside its token."""
        account = self.accounts.get(issued.connection_id)
        return {
            "connection_id": issued.connection_id,
            "customer_id": issued.customer_id,
            "customer_name": issued.customer_name,
            "account_id": account.account_id,
            "company_id": account.company_id,
            "client_type": "sandbox" if issued.sandbox else "production",
            "connection_type": "provider",
            "products": list(issued.products),
            "provider_id": issued.provider_id,
            "entity_ids": list(account.entity_ids),
        }

    def _end_tokens(self, connection_id: str) -> None:
        for token, held in list(self._live.items()):
            if held.connection_id == connection_id:
                del self._live[token]

    def _with_count(self, issued: IssuedCode) -> IssuedCode:
        return dataclasses.replace(issued, presented=self._presented[issued.code])
