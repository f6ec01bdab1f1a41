"""What happened, as one frozen object: one log line, and one call of the application's hook."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

from finch_middleware.records import Attempt

logger = logging.getLogger("finch_middleware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    Something that an operator may want to know. Never holds a secret or text from a request.

    Attributes:
        name: Stable, such as ``finch.connection.stored``.
        level: Of `logging`.
        reference: The one that the person's page shows.
        reason: Why, in one stable word.
        client_id: Whose configuration; public.
        customer_ids: The customers it is about, by the application's own ids.
        request_id: Finch-Request-Id, which Finch's support asks for.
        elapsed_ms: Since the callback came in.
    """

    name: str
    level: int
    client_id: str
    reference: str | None = None
    reason: str | None = None
    customer_ids: tuple[str, ...] = ()
    attempt_id: str | None = None
    connection_id: str | None = None
    request_id: str | None = None
    elapsed_ms: int | None = None


class Events:
    """Writes events to the log ``finch_middleware`` and hands them to `on_event`."""

    def __init__(self, *, client_id: str, on_event: Callable[[Event], None] | None) -> None:
        self._client_id = client_id
        self._on_event = on_event

    def report(self, name: str, level: int, **fields: object) -> None:
        """Report one event; a hook that raises costs nobody their connection."""
        event = Event(name=name, level=level, client_id=self._client_id, **fields)  # type: ignore[arg-type]  # typed by Event
        told = {key: value for key, value in dataclasses.asdict(event).items() if value}
        line = " ".join(f"{key}={value!r}" for key, value in told.items() if key not in _APART)
        logger.log(level, "%s %s", name, line, extra={"finch": told})
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # the application's own code; its fault must not end a callback
            logger.error("finch.hook.failed on_event raised", extra={"finch": {"name": name}})

    def of_attempt(self, name: str, level: int, attempt: Attempt, **fields: object) -> None:
        """Report what became of an attempt, with all that an operator finds it by."""
        told = {
            "reference": attempt.reference,
            "attempt_id": attempt.attempt_id,
            "connection_id": attempt.connection_id,
            "customer_ids": attempt.customer_ids,
            "request_id": attempt.request_id,
        }
        self.report(name, level, **{**told, **fields})


_APART = ("name", "level")
