from __future__ import annotations

from pathlib import Path

import pytest

from finch_middleware.crypto.keys import new_key
from finch_middleware.testing import FakeFinch
from tests.site import environment_for


@pytest.fixture
def configured(fake: FakeFinch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that a deployment has, with the fake in Finch's place."""
    monkeypatch.chdir(tmp_path)
    more = {"products": "company directory", "storage_url": "sqlite:///finch.db"}
    redirect_uri = "http://localhost:5000/finch/callback"
    values = environment_for(fake, redirect_uri, key=new_key("k1"), **more)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
