"""A wall clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """
    An argument `clock=` for FinchConnect. Its time changes only by `move`.

    It affects expiry and leases only; deadlines use the monotonic clock.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def __call__(self) -> datetime:
        """The current instant, in UTC."""
        return self._now

    def move(self, by: timedelta) -> None:
        """Advance the clock by *by*, or set it back if that is negative."""
        self._now += by
