"""A wall clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """
    Give it as `clock=` to FinchConnect; it stands still until `move` is called.

    It runs for expiry and leases alone. Deadlines are measured on the monotonic clock.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def __call__(self) -> datetime:
        """The present instant, in UTC."""
        return self._now

    def move(self, by: timedelta) -> None:
        """Let *by* pass, or come back where it is negative."""
        self._now += by
