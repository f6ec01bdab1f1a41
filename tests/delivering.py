"""A delivery of Finch without a Finch: its body, and the headers that sign it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from finch_middleware.testing.fake_finch.webhooks import WebhookSender, new_event_id
from tests.threats.wsgi import environ_of

PATH = "/finch/webhook"
SECRET = "5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
#: The options of a component that receives them.
RECEIVING: Any = {"webhook_path": PATH, "webhook_secrets": SECRET}
REAUTH = {
    "event_type": "account.updated", "connection_id": "connection", "data": {"status": "reauth"}
}  # fmt: skip


def headers_of(
    body: bytes, *, at: datetime | None = None, event_id: str = "", secret: str = SECRET
) -> dict[str, str]:
    """The headers with which Finch delivers *body* at that instant, by default now."""
    now = at or datetime.now(UTC)
    sender = WebhookSender(clock=lambda: now, record=lambda sent: None)
    sender.deliver_to(lambda body, headers: 0, secrets=[secret])
    seconds = int(now.timestamp())
    return sender.signed(event_id or new_event_id(seconds), seconds, body)


def delivery(event: object = None, **signing: Any) -> dict[str, Any]:
    """The WSGI environ of a delivery; `REAUTH` by default."""
    body = json.dumps(event or REAUTH).encode()
    return environ_of(PATH, method="POST", headers=headers_of(body, **signing), body=body)
