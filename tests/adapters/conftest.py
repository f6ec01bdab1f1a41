from __future__ import annotations

from typing import Any

import pytest

from finch_middleware import Customer
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch


@pytest.fixture
def options(fake: FakeFinch) -> dict[str, Any]:
    return {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "redirect_uri": "http://localhost:8000/finch/callback",
        "products": ["company"],
        "storage": "memory://",
        "key": new_key("k1"),
        "api_url": fake.api_url,
        "connect_origin": fake.connect_origin,
    }


@pytest.fixture
def with_begin_path(options: dict[str, Any]) -> dict[str, Any]:
    def customer_of(request: Any) -> Customer:
        return Customer(id="acme", name="Acme Inc.")

    return {**options, "begin_path": "/begin", "customer_of": customer_of}
