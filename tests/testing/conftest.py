from __future__ import annotations

from collections.abc import Iterator

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> Iterator[FakeFinch]:
    with FakeFinch(clock=clock) as fake:
        yield fake
