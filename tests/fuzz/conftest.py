from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A million rejected requests would be a million kept log records."""
    logger = logging.getLogger("finch_middleware")
    logger.disabled = True
    yield
    logger.disabled = False
