from __future__ import annotations

from typing import Any

import pytest

from finch_middleware import Customer
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import options_for


@pytest.fixture
def options(fake: FakeFinch) -> dict[str, Any]:
    return options_for(fake, "http://localhost:8000/finch/callback")


@pytest.fixture
def with_begin_path(options: dict[str, Any]) -> dict[str, Any]:
    def customer_of(request: Any) -> Customer:
        return Customer(id="acme", name="Acme Inc.")

    return {**options, "begin_path": "/begin", "customer_of": customer_of}
