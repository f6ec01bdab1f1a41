from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.story.conftest import callback, faulty, faulty_site

__all__ = ["callback", "faulty", "faulty_site"]


@pytest.fixture(autouse=True)
def _patient(patient: None) -> None:
    """Whatever races here ends as it must, on a machine however busy."""


@pytest.fixture
def fake(echo_state: bool) -> Iterator[FakeFinch]:
    """A fake with a client secret that no other text holds a part of."""
    with FakeFinch(client_secret=secrets.token_urlsafe(24), echo_state=echo_state) as fake:
        yield fake
