"""Storages that several processes share, on every backend that they can share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.storage.open import open_storage
from finch_middleware.testing.sample_records import an_attempt, key_of
from tests.processes import forked, succeeds
from tests.storages import SERVERS, options_of


@pytest.fixture(params=["sqlite", *SERVERS])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty storage of each kind in turn."""
    url = options_of(request.param, request=request, folder=tmp_path)["storage"]
    storage: Any = open_storage(url)
    yield storage
    storage.close()


def test_forked_child_leaves_the_connections_of_its_parent_alone(storage: Any) -> None:
    storage.claim(an_attempt("parent"))

    def loses_one_and_wins_one() -> bool:
        lost = storage.claim(an_attempt("parent", attempt_id="child")) is not None
        won = storage.claim(an_attempt("child")) is None
        storage.close()
        return lost and won

    assert succeeds(forked(loses_one_and_wins_one))
    assert storage.claim(an_attempt("after")) is None
    assert storage.attempt(key_of("child")) == an_attempt("child")
