"""Many swaps in one transaction, as a rotation makes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import a_connection, an_attempt, sealed


def test_each_pair_is_swapped_or_left_by_itself(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    rows = [a_connection(name) for name in ("c-1", "c-2")]
    for row in rows:
        storage.settle(an_attempt(row.connection_id), row)
    renewed = [dataclasses.replace(row, sealed=sealed("renewed")) for row in rows]
    stale = dataclasses.replace(rows[1], status="reauth")

    swapped = storage.swap_each([(rows[0], renewed[0]), (stale, renewed[1])])

    assert list(swapped) == [True, False]
    assert storage.get("c-1") == renewed[0]
    assert storage.get("c-2") == rows[1]
    storage.close()
