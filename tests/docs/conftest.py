from __future__ import annotations

from pathlib import Path

import pytest

from finch_middleware.crypto.keys import new_key
from finch_middleware.testing import FakeFinch


@pytest.fixture
def configured(fake: FakeFinch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that a deployment has, with the fake in Finch's place."""
    monkeypatch.chdir(tmp_path)
    values = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": "http://localhost:5000/finch/callback",
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": "sqlite:///finch.db",
        "FINCH_KEY": new_key("k1"),
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
