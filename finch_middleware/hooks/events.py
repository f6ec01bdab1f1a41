"""What the log, `on_event` and `on_problem` are informed of."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from finch_middleware.attempts import Attempt

T = TypeVar("T")

logger = logging.getLogger("finch_middleware")

#: Lines a minute of refused requests that have the same reason; anybody can send those.
REFUSED_LINES_LIMIT = 10
_REFUSED = ("finch.callback.rejected", "finch.begin.rejected", "finch.webhook.rejected")
_MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    Something that an operator may want to know. Holds no secret and no text of a request.

    Attributes:
        name: Stable, such as ``finch.connection.stored``.
        level: Of `logging`.
        reference: The one that the person's page shows.
        reason: Why, in one stable word.
        client_id: Whose configuration; public.
        customer_ids: The customers concerned, by the application's own ids.
        request_id: Finch-Request-Id, which Finch's support asks for.
        elapsed_ms: From the claim of a code to the end of its attempt; of a refused callback,
            since it arrived.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    An event that a person has to act on.

    Attributes:
        event: What happened.
        action: What to do now, in one sentence without ids.
    """

    event: Event
    action: str


#: The events that are a `Problem`, and what to do.
ACTIONS = {
    "finch.exchange.ambiguous": "Look for the customer at Finch: it may hold a connection.",
    "finch.exchange.bad_response": "Look for a proxy between this server and Finch.",
    "finch.attempt.interrupted": "Look for the customer at Finch: it may hold a connection.",
    "finch.token.quarantined": "Run `finch-middleware recover --quarantined`.",
    "finch.token.spooled": "Bring the storage back, then run `finch-middleware sweep` here.",
    "finch.token.lost": "Repair the spool's disk, and end this connection in Finch's dashboard.",
    "finch.claim.not_released": "Check the storage; the person has to start again.",
    "finch.key.unavailable": "Check the key service.",
    "finch.spool.unavailable": "Make the spool's folder writable.",
    "finch.hook.failed": "Correct the application's function that `reason` names.",
}


@dataclass(kw_only=True, eq=False, repr=False)
class Events:
    """
    Writes events to the log ``finch_middleware`` and hands them to `on_event` and `on_problem`.

    Of requests that are refused for one reason at most REFUSED_LINES_LIMIT lines a minute are
    written, and the next has the rest's number in `left_out`: a flood must not fill a disk.
    The hook gets every event.
    """

    client_id: str
    on_event: Callable[[Event], object] | None
    on_problem: Callable[[Problem], object] | None = None
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        # Of each kind, the last minute in which one was reported, and how many were.
        self._minutes: dict[tuple[str, str | None], tuple[int, int]] = {}

    def report(self, name: str, level: int, **fields: Any) -> bool:
        """
        Report one event; a hook that raises does not affect the callback.

        False: `on_problem` was to be called and raised.
        """
        event = Event(name=name, level=level, client_id=self.client_id, **fields)
        self._write(event)
        if self.on_event is not None and not called(self.on_event, event):
            self._report_hook("on_event")
        if self.on_problem is None or name not in ACTIONS:
            return True
        if called(self.on_problem, Problem(event=event, action=ACTIONS[name])):
            return True
        self._report_hook("on_problem")
        return False

    def of_attempt(self, name: str, level: int, attempt: Attempt, **fields: object) -> bool:
        """`report` how an attempt ended, with every id that an operator can search for."""
        known = {
            "reference": attempt.reference,
            "attempt_id": attempt.attempt_id,
            "connection_id": attempt.connection_id,
            "customer_ids": attempt.customer_ids,
            "request_id": attempt.request_id,
            "elapsed_ms": _elapsed_ms(attempt),
        }
        return self.report(name, level, **{**known, **fields})

    def _report_hook(self, hook: str) -> None:
        """Report that one of these two raised, to the log and to the other one."""
        event = Event(
            name="finch.hook.failed", level=logging.ERROR, client_id=self.client_id, reason=hook
        )
        self._write(event)
        if hook == "on_event" and self.on_problem is not None:
            called(self.on_problem, Problem(event=event, action=ACTIONS[event.name]))
        elif hook == "on_problem" and self.on_event is not None:
            called(self.on_event, event)

    def _write(self, event: Event) -> None:
        # A line that the level hides does not count.
        if not logger.isEnabledFor(event.level):
            return
        left_out = self._left_out(event) if event.name in _REFUSED else 0
        if left_out is None:
            return
        shown = {key: value for key, value in dataclasses.asdict(event).items() if value}
        shown |= {"left_out": left_out} if left_out else {}
        apart = ("name", "level")
        line = " ".join(f"{key}={value!r}" for key, value in shown.items() if key not in apart)
        logger.log(event.level, "%s %s", event.name, line, extra={"finch": shown})

    def _left_out(self, event: Event) -> int | None:
        """How many lines of this kind were left out before it; None if it is left out too."""
        kind, now = (event.name, event.reason), int(self.monotonic() // _MINUTE_SECONDS)
        minute, lines = self._minutes.get(kind, (now, 0))
        # Without a lock, which a fork could leave held: threads that meet here may write a few
        # lines more.
        if minute != now:
            self._minutes[kind] = (now, 1)
            return max(0, lines - REFUSED_LINES_LIMIT)
        self._minutes[kind] = (now, lines + 1)
        return 0 if lines < REFUSED_LINES_LIMIT else None


def _elapsed_ms(attempt: Attempt) -> int | None:
    """From the claim to its end, by clocks that may differ; None before the end."""
    if attempt.settled_at is None:
        return None
    return max(0, (attempt.settled_at - attempt.claimed_at) // timedelta(milliseconds=1))


def called(hook: Callable[[T], object], given: T) -> bool:
    """Whether that function of the application has returned; what it raises goes no further."""
    try:
        hook(given)
    except Exception:  # the application's own code; its fault must not end a callback
        return False
    return True
