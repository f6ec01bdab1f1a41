"""A FinchConnect that uses a fake Finch, for tests of any scope."""

from __future__ import annotations

from typing import Unpack, cast

from finch_middleware.config.options import Options
from finch_middleware.connect import FinchConnect
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch


def make_finch(fake: FakeFinch, **options: Unpack[Options]) -> FinchConnect:
    """
    A FinchConnect that uses *fake*, a storage in memory and a new key.

    Its callback is ``http://localhost/finch/callback``. *options* replace or complete all that.

    Raises:
        ConfigurationError: As the constructor of `FinchConnect`.
        RuntimeError: *fake* was never started.
    """
    defaults: Options = {
        "redirect_uri": "http://localhost/finch/callback",
        "products": ["company", "directory"],
        **fake_options(fake),
    }
    return FinchConnect(**cast("Options", {**defaults, **options}))


def fake_options(fake: FakeFinch) -> Options:
    """The options that lead to *fake* and to a storage that ends with the test."""
    return {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "api_url": fake.api_url,
        "connect_origin": fake.connect_origin,
        "storage": "memory://",
        "spool": None,
        "key": new_key("test"),
    }
