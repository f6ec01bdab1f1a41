"""The size of each campaign: small by default, full with ``FINCH_FULL=1``."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """
    A campaign's size.

    Attributes:
        variable: Sets this size alone.
        counts: What is counted.
    """

    variable: str
    counts: str
    default: int
    full: int

    def __call__(self) -> int:
        """The size of this run."""
        given = os.environ.get(self.variable)
        if given is not None:
            return int(given)
        return self.full if os.environ.get("FINCH_FULL") else self.default


FUZZ = Size(
    variable="FINCH_FUZZ", counts="hostile callback requests", default=6_000, full=1_000_000
)
ANSWERS = Size(
    variable="FINCH_ANSWERS", counts="answers of the token endpoint", default=500, full=100_000
)
RETURN_TO = Size(
    variable="FINCH_RETURN_TO", counts="values of return_to", default=20_000, full=1_000_000
)
ERRORS = Size(variable="FINCH_ERRORS", counts="hostile error texts", default=1_500, full=100_000)
COOKIES = Size(variable="FINCH_COOKIES", counts="Cookie headers", default=600, full=10_000)
LINKS = Size(variable="FINCH_LINKS", counts="altered invitations", default=300, full=100_000)
DELIVERIES = Size(
    variable="FINCH_DELIVERIES", counts="hostile webhooks", default=3_000, full=1_000_000
)
STARTS = Size(variable="FINCH_STARTS", counts="begun flows", default=1_000, full=1_000_000)
ROWS = Size(variable="FINCH_ROWS", counts="sealed rows, each bit flipped", default=4, full=1_000)
SWAPS = Size(
    variable="FINCH_SWAPS", counts="sealed rows, swapped in all pairs", default=40, full=1_000
)
PASSED = Size(variable="FINCH_PASSED", counts="forwarded requests", default=2_000, full=10_000)
UPLOAD = Size(variable="FINCH_UPLOAD", counts="MiB of an upload", default=100, full=100)
CALLBACKS = Size(
    variable="FINCH_CALLBACKS", counts="callbacks of forked workers", default=64, full=2_000
)
KILLS = Size(variable="FINCH_KILLS", counts="workers killed at work", default=8, full=200)
ORDERS = Size(variable="FINCH_ORDERS", counts="orders in which five flows end", default=6, full=120)

ALL = [each for each in vars().values() if isinstance(each, Size)]
