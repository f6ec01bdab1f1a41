"""
Flows that are never finished: ``python -m benchmarks.abandoned postgresql --flows 1000000``.

Opens that many sessions at a server of our own, as many people who close the page would. Prints
the rows of each table afterwards, and how many rows were written meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import create_engine, text

from benchmarks import databases, token_server
from benchmarks.peers import Ours
from benchmarks.token_server import TokenServer


@dataclass(frozen=True, kw_only=True)
class Left:
    """
    What the flows have left.

    Attributes:
        rows: Table: its rows.
        written: Rows that were inserted, changed or removed; of SQLite, whether any commit was.
        seconds, processor_seconds: Of all flows; the second of this process alone.
    """

    rows: Mapping[str, int]
    written: int
    seconds: float
    processor_seconds: float


_WRITTEN = {
    "sqlite": "PRAGMA data_version",
    "postgresql": "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables",
}


def left_by(url: str, server: TokenServer, *, flows: int) -> Left:
    """Open as many flows, and count."""
    ours = Ours(server, url)
    tables = [f"finch_{name}" for name in ("attempts", "connections", "events")]
    # The first flow of a process prepares the storage, and writes rows that it rolls back.
    ours.finch.begin(customer_id="first", customer_name="Acme")
    ours.finch.storage.close()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as database:
        query = text(_WRITTEN[engine.dialect.name])
        before = database.execute(query).scalar_one()
        began, used = time.perf_counter(), time.process_time()
        for number in range(flows):
            ours.finch.begin(customer_id=f"customer-{number}", customer_name="Acme")
        took, used = time.perf_counter() - began, time.process_time() - used
        # A session of PostgreSQL counts what it wrote at its end at the latest.
        ours.finch.storage.close()
        written = int(database.execute(query).scalar_one() - before)
        rows = {
            each: int(database.execute(text(f"SELECT count(*) FROM {each}")).scalar_one())
            for each in tables
        }
    engine.dispose()
    return Left(rows=rows, written=written, seconds=took, processor_seconds=used)


def main() -> None:
    """Print what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", choices=[*_WRITTEN])
    parser.add_argument("--flows", type=int, default=20_000)
    given = parser.parse_args()
    with databases.named(given.database) as url, token_server.running() as server:
        left = left_by(url, server, flows=given.flows)
    print(
        f"{given.flows} flows in {left.seconds:.0f} s, {left.processor_seconds:.0f} s of processor "
        f"time here; rows written: {left.written}; rows: {dict(left.rows)}"
    )


if __name__ == "__main__":
    main()
