"""How the databases find the rows of each statement: by an index, however many there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finch_middleware.storage.sql import storage as sqlalchemy
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt
from tests.storages import options_of

#: An index's name in SQLite, and in PostgreSQL: the statements whose rows it finds.
FOUND_BY_INDEX = {
    ("attempts_1", "attempts_pkey"): (
        *("attempt", "attempt_locked", "update_attempt", "release", "end_claim"),
    ),
    ("attempts_of_flow", "attempts_of_flow"): ("attempt_of_flow",),
    ("attempts_pending", "attempts_pending"): ("quarantined", "unsettled", "old_attempts"),
    ("connections_1", "connections_pkey"): (
        *("connection", "connection_locked", "update_connection", "scan", "scan_names"),
        "replacement",
    ),
    ("connections_of_customer", "connections_of_customer"): (
        *("of_customer", "ended", "old_announcements"),
    ),
    ("events_1", "events_pkey"): ("event", "mark_event"),
    ("events_of_time", "events_of_time"): ("old_events",),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_statement_uses_an_index_however_many_rows_there_are(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    storage = SQLAlchemyStorage(options_of(kind, request=request, folder=tmp_path)["storage"])
    storage.check()
    named = {**vars(storage._sql), "replacement": storage._tokens._replacement}
    insertions = {name for name in named if name.startswith(("insert", "put", "claim"))}
    assert {name for names in FOUND_BY_INDEX.values() for name in names} | insertions == {*named}
    values = {**a_connection().as_row(), **an_attempt().as_row(), "of_limit": 10}
    values |= dict.fromkeys(("of_code", "of_flow", "of_customer", "of_last", "of_event"), bytes(32))
    values |= dict.fromkeys(("of_attempt", "of_sealed", "new_sealed", "between"), "ab")
    values |= {"of_instant": NOON, "of_place": None}

    with storage._database._engine.connect() as database:
        if kind == "postgresql":
            # As in a large table: one with few rows is read without an index, or in no order.
            database.exec_driver_sql("SET enable_seqscan = off; SET enable_sort = off")
        for (in_sqlite, in_postgresql), names in FOUND_BY_INDEX.items():
            for name in names:
                kept = named[name][0] if isinstance(named[name], tuple) else named[name]
                texts = name == "replacement" and kind == "postgresql"
                form = kept._made(database)
                bound = form.bound({**values, "of_hash": "ab" if texts else bytes(32)})
                explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
                rows = database.exec_driver_sql(f"{explain} {form.text}", bound).all()
                plan = "\n".join(str(row[-1]) for row in rows)
                assert (in_sqlite if kind == "sqlite" else in_postgresql) in plan, (name, plan)
                assert not re.search("SCAN|Seq Scan|Sort|TEMP B-TREE", plan), (name, plan)
    storage.close()


@pytest.mark.parametrize("name", ["old_attempts", "old_events", "old_announcements"])
def test_removal_finds_rows_by_their_keys_however_many_are_old(tmp_path: Path, name: str) -> None:
    storage = SQLAlchemyStorage(f"sqlite:///{tmp_path}/finch.db")
    storage.check()
    removal = getattr(storage._sql, name)[1]

    with storage._database._engine.connect() as database:
        keys = ",".join("?" * sqlalchemy._BATCH)
        text = str(removal.compile(database)).replace("__[POSTCOMPILE_of_keys]", keys)
        nulls = (None,) * text.count("?")
        plan = database.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", nulls).all()

    [step] = [row[-1] for row in plan]
    assert re.search(r"_1 \(\w+_hash=\?\)", step), step
