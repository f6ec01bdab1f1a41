"""
The pytest plugin: fixtures for an application's own tests.

Loaded into every test run on the machine, so it imports what is heavy only when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finch_middleware.connect import FinchConnect
    from finch_middleware.testing.fake_finch import FakeFinch

# A failed promise of the contract then says what was compared, in other projects too.
pytest.register_assert_rewrite(
    "finch_middleware.testing.attempt_promises",
    "finch_middleware.testing.connection_promises",
    "finch_middleware.testing.storage_contract",
    "finch_middleware.testing.trouble_promises",
)


@pytest.fixture
def fake_finch() -> Iterator[FakeFinch]:
    """A fake Finch server on a free port of this machine; it stops with the test."""
    from finch_middleware.testing.fake_finch import FakeFinch

    with FakeFinch() as fake:
        yield fake


@pytest.fixture
def finch(fake_finch: FakeFinch) -> FinchConnect:
    """A FinchConnect wired to `fake_finch`, with a storage in memory and a key of its own."""
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
