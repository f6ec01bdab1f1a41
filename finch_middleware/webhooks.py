"""
An event of Finch becomes a row, then a status: verify, store, apply or ask, hand over.

Read `respond` from its top: each line is one step. Whoever did not sign gets no further than the
first, and Finch gets its 200 once the event is durable.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finch_middleware.config.settings import Settings
from finch_middleware.errors import FinchError, ReturnFault, StorageFault, UsageError
from finch_middleware.finch.webhook import NotVerified, Signature, WebhookEvent, read_event
from finch_middleware.hooks.events import Events, called
from finch_middleware.operations.asking import Asking
from finch_middleware.operations.recovery import Recovery
from finch_middleware.outcomes import INVALID_REASONS, Response
from finch_middleware.storage.forks import PerProcess
from finch_middleware.storage.protocol import Storage
from finch_middleware.web.request import CallbackRequest

if TYPE_CHECKING:
    from finch_middleware.connections import Connections

BODY_LIMIT_BYTES = 1024 * 1024
_RETRY_AFTER_SECONDS = 5
_WORD = re.compile(r"[a-z0-9_.]{1,64}")


@dataclass(kw_only=True, eq=False, repr=False)
class Webhooks:
    """Receives events. Thread-safe; one for the life of the process."""

    settings: Settings
    storage: Storage
    connections: Connections
    recovery: Recovery
    events: Events

    def __post_init__(self) -> None:
        self._asking = PerProcess(lambda: Asking(self._ask))

    def respond(self, request: CallbackRequest) -> Response:
        """
        The response to Finch. It has no body.

        Raises:
            UsageError: There are no `webhook_secrets`, or the request's body has to be awaited.
        """
        try:
            event_id, body = self._verified(request)
        except ReturnFault as fault:
            return self._reject(fault)
        event = read_event(event_id, body, received_at=self.settings.clock())
        if event is None:
            self.events.report("finch.webhook.malformed", logging.ERROR)
            return _response(400)
        try:
            return self._receive(event)
        except StorageFault as fault:
            self._report_unavailable(event, fault)
            return _response(503, **{"Retry-After": str(_RETRY_AFTER_SECONDS)})

    def body_limit_bytes(self, request: CallbackRequest) -> int:
        """How much of the body `respond` reads; 0 for a request that its headers rule out."""
        try:
            self._signature(request)
        except ReturnFault:
            return 0
        return BODY_LIMIT_BYTES

    def _signature(self, request: CallbackRequest) -> Signature:
        """What a POST carries in its headers, if they are complete and of now."""
        if request.method != "POST":
            raise ReturnFault("method")
        signature = Signature(
            event_id=request.headers.get("Finch-Event-Id", ""),
            timestamp=request.headers.get("Finch-Timestamp", ""),
            entries=request.headers.get("Finch-Signature", ""),
        )
        signature.check(now=self.settings.clock())
        return signature

    def _verified(self, request: CallbackRequest) -> tuple[str, bytes]:
        """The event's id and its body, which Finch has signed."""
        secrets = self.settings.webhook_secrets
        if not secrets:
            raise UsageError("finch.webhook needs the option webhook_secrets")
        # Before the body: no thread reads that of a request without a current signature.
        signature = self._signature(request)
        body = request.untouched_body(limit_bytes=BODY_LIMIT_BYTES)
        signature.verify(body, secrets=secrets)
        return signature.event_id, body

    def _receive(self, event: WebhookEvent) -> Response:
        hook = self.settings.on_webhook
        statuses = self.connections.statuses
        received = self.storage.receive(event, delivered=hook is None, waits=statuses.awaited)
        if received.before is not None and received.after is not None:
            statuses.changed(received.before, received.after)
        level = logging.INFO if received.first else logging.DEBUG
        word = event.event_type if _WORD.fullmatch(event.event_type) else None
        self._report("finch.webhook.received", level, event, reason=word)
        with suppress(StorageFault):
            # A process may receive nothing but events.
            self.recovery.forget_in_passing()
        if (
            (received.undecided or self._may_have_changed(event))
            and event.connection_id is not None
            and not self._asking[os.getpid()].about(event.connection_id)
        ):
            self._report("finch.connection.not_asked", logging.WARNING, event, reason="busy")
        # A repeat that is not delivered: the hook raised, or its process was killed.
        if received.delivered or hook is None:
            return _response(200)
        if not called(hook, event):
            # Finch delivers the event again.
            self._report("finch.hook.failed", logging.ERROR, event, reason="on_webhook")
            return _response(500)
        try:
            self.storage.mark_delivered(event)
        except StorageFault as fault:
            # The hook has the event, so Finch must not deliver it again.
            self._report_unavailable(event, fault)
        return _response(200)

    def _may_have_changed(self, event: WebhookEvent) -> bool:
        """Whether a job has ended that may have found out what is wrong with the connection."""
        if event.event_type != "job.data_sync_all.completed" or event.connection_id is None:
            return False
        row = self.storage.get(event.connection_id)
        return row is not None and row.status != "connected"

    def _ask(self, connection_id: str) -> bool:
        """Ask Finch, unless another process has. False: Finch asks everybody to wait."""
        try:
            row = self.storage.get(connection_id)
            if row is not None and (row.undecided_at or row.status != "connected"):
                self.connections.refresh(connection_id, customer_id=row.customer_id)
        except FinchError as fault:
            reason = getattr(fault, "reason", fault.code)
            self.events.report(
                "finch.connection.not_asked",
                logging.WARNING,
                connection_id=connection_id,
                reason=reason,
                request_id=fault.request_id,
            )
            return reason != "throttled"
        return True

    def _reject(self, fault: ReturnFault) -> Response:
        # A browser that opens the address is everyday traffic; the rest may be an attack.
        level = logging.DEBUG if fault.reason == "method" else logging.WARNING
        self.events.report("finch.webhook.rejected", level, reason=fault.reason)
        unsigned = isinstance(fault, NotVerified)
        status = 401 if unsigned else INVALID_REASONS[fault.reason][0]
        return _response(status, **({"Allow": "POST"} if status == 405 else {}))

    def _report_unavailable(self, event: WebhookEvent, fault: StorageFault) -> None:
        reason = getattr(fault, "reason", fault.code)
        self._report("finch.storage.unavailable", logging.ERROR, event, reason=reason)

    def _report(self, name: str, level: int, event: WebhookEvent, *, reason: str | None) -> None:
        self.events.report(name, level, reason=reason, connection_id=event.connection_id)


def _response(status: int, **headers: str) -> Response:
    return Response(status=status, headers={"Cache-Control": "no-store", **headers})
