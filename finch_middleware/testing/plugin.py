"""
The pytest plugin: fixtures for an application's own tests.

They end with each test. A project's own fixture of the same name may have any scope: make it
with `FakeFinch` and `make_finch`.

Every test run of the environment loads it, so heavy imports wait until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finch_middleware.connect import FinchConnect
    from finch_middleware.testing.fake_finch import FakeFinch

# With this, a failing assertion of the contract shows its values in other projects too.
pytest.register_assert_rewrite(
    "finch_middleware.testing.attempt_promises",
    "finch_middleware.testing.connection_promises",
    "finch_middleware.testing.event_promises",
    "finch_middleware.testing.sample_records",
    "finch_middleware.testing.storage_contract",
    "finch_middleware.testing.token_promises",
    "finch_middleware.testing.trouble_promises",
)


@pytest.fixture
def fake_finch() -> Iterator[FakeFinch]:
    """A fake Finch server on a free port of this machine; it stops after the test."""
    from finch_middleware.testing.fake_finch import FakeFinch

    with FakeFinch() as fake:
        yield fake


@pytest.fixture
def finch(fake_finch: FakeFinch) -> FinchConnect:
    """A FinchConnect that uses `fake_finch`, a storage in memory and a new key."""
    from finch_middleware.testing.component import make_finch

    return make_finch(fake_finch)


@pytest.fixture
def django_finch(fake_finch: FakeFinch) -> Iterator[FinchConnect]:
    """
    The component of ``settings.FINCH``, which the project's views use too.

    It uses `fake_finch`, a storage in memory and a new key.
    """
    from finch_middleware.testing.django import use_fake_finch

    with use_fake_finch(fake_finch) as component:
        yield component
