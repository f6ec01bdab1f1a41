"""Programs that this machine lacks: a skip with the reason, or a failure if required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(kind: str, reason: str) -> NoReturn:
    """Skip the test; fail it where FINCH_TEST_REQUIRE names *kind*."""
    if kind in os.environ.get("FINCH_TEST_REQUIRE", "").split(","):
        pytest.fail(f"{kind}: required here, but {reason}")
    pytest.skip(reason)
