"""
The pytest plugin: fixtures for an application's own tests.

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
    "finch_middleware.testing.storage_contract",
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
    from finch_middleware.connect import FinchConnect
    from finch_middleware.crypto.keys import new_key

    return FinchConnect(
        client_id=fake_finch.client_id,
        client_secret=fake_finch.client_secret,
        redirect_uri="http://localhost/finch/callback",
        products=["company", "directory"],
        storage="memory://",
        key=new_key("test"),
        api_url=fake_finch.api_url,
        connect_origin=fake_finch.connect_origin,
    )
