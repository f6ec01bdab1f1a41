"""
What a storage costs as it grows: ``python -m benchmarks.growth sqlite --to 1000000``.

At each size, from a thousand connections by tens, with as many settled attempts beside them:
the median and the 99th percentile of what a callback and an application ask, and the bytes on
disk, of Redis those in memory. Rows are written in bulk; what is measured goes through the
storage as always.
"""

from __future__ import annotations

import argparse
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar

from redis import Redis
from sqlalchemy import create_engine, insert, text

from benchmarks import databases
from finch_middleware import FinchConnect
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.crypto.keys import new_key
from finch_middleware.records import StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.redis.plan import COMPARE_AND_WRITE, Plan
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.storage.shards import Shard
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

_CHUNK = 5_000
_NOW = datetime.now(UTC)
_ANSWER = Secret(
    '{"access_token":"00000000-0000-0000-0000-000000000000","token_type":"bearer",'
    '"connection_id":"00000000-0000-0000-0000-000000000000","customer_id":"customer-0000000",'
    '"customer_name":"Acme Incorporated","account_id":"00000000-0000-0000-0000-000000000000",'
    '"company_id":"00000000-0000-0000-0000-000000000000","client_type":"production",'
    '"connection_type":"provider","products":["company","directory","individual","employment"],'
    '"provider_id":"gusto","entity_ids":["00000000-0000-0000-0000-000000000000"]}'
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of one operation: half of all calls were faster than *median*."""

    name: str
    median: float
    slow: float


class Subject(ABC):
    """A storage that grows."""

    storage: SQLAlchemyStorage | RedisStorage

    def __init__(self) -> None:
        finch = FinchConnect(
            client_id="client",
            client_secret="s3cret",
            redirect_uri="https://app.test/finch/callback",
            products=["company"],
            storage="memory://",
            key=new_key("k1"),
        )
        # Every row has ciphertext of the same length; nobody opens it here.
        self._sealed = finch.vault.seal_grant(_ANSWER, connection_id="c", customer_id="c")
        self.size = 0

    def grow(self, *, to: int) -> None:
        """Write connections and settled attempts until there are so many of each."""
        for start in range(self.size, to, _CHUNK):
            self.write(range(start, min(start + _CHUNK, to)))
        self.size = to
        self.calm()

    @abstractmethod
    def write(self, numbers: range) -> None:
        """Write the connections and attempts of these numbers."""

    @abstractmethod
    def calm(self) -> None:
        """Let the database do now what it would do later in the background."""

    @abstractmethod
    def bytes_kept(self) -> int:
        """Of connections, attempts and their indexes."""

    def connection(self, number: int) -> StoredConnection:
        """The connection of that number; three belong to each customer."""
        return StoredConnection(
            connection_id=f"00000000-0000-0000-0000-{number:012}",
            customer_id=f"customer-{number // 3:07}",
            client_id="client",
            provider_id="gusto",
            products=("company", "directory", "individual", "employment"),
            client_type="production",
            connection_type="provider",
            status="connected",
            sealed=self._sealed,
            obtained_at=_NOW,
            attempt_id=f"{number:032}",
        )

    def attempt(self, number: int, *, state: AttemptState = AttemptState.STORED) -> Attempt:
        """The attempt that brought it."""
        return Attempt(
            attempt_id=f"{number:032}",
            code_hash=sha256(b"code%d" % number).digest(),
            flow_hash=sha256(b"flow%d" % number).digest(),
            bound_to=(sha256(b"flow%d" % number).digest(),),
            client_id="client",
            customer_ids=(f"customer-{number // 3:07}",),
            state=state,
            reference="ABCD2345",
            claimed_at=_NOW,
            leased_until=_NOW + timedelta(seconds=60),
            settled_at=_NOW if state is AttemptState.STORED else None,
            connection_id=f"00000000-0000-0000-0000-{number:012}",
            return_to="/settings",
        )

    def operations(self) -> Iterator[tuple[str, Callable[[int], object]]]:
        """What is asked of a storage, as functions of a number."""
        storage, size = self.storage, self.size
        pick = [hash(i * 2_654_435_761) % size for i in range(10_000)]
        parts = max(1, size // 1000)

        def claim(turn: int) -> None:
            storage.claim(self.attempt(-turn - 1 - size, state=AttemptState.CLAIMED))

        def settled(turn: int) -> None:
            number = -turn - 1 - size
            storage.settle(self.attempt(number), self.connection(10**11 + size + turn))

        yield "claim", claim
        yield "settle", settled
        yield "attempt", lambda turn: storage.attempt(self.attempt(pick[turn]).code_hash)
        yield "get", lambda turn: storage.get(self.connection(pick[turn]).connection_id)
        yield "for_customer", lambda turn: storage.for_customer(f"customer-{pick[turn] // 3:07}")
        yield (
            "scan of 500",
            lambda turn: storage.scan(
                after=None, limit=500, shard=Shard(number=turn % parts + 1, count=parts)
            ),
        )
        yield "unsettled", lambda turn: storage.unsettled(leased_before=_NOW)
        yield "forget", lambda turn: storage.forget(settled_before=_NOW - timedelta(days=7))

    def measured(self, *, times: int) -> list[Cost]:
        """The cost of each operation at the present size."""
        self.storage.check()
        return [_cost(name, work, times=times) for name, work in self.operations()]


class InSQL(Subject):
    """In the tables of a database."""

    _SIZE: ClassVar = {
        "postgresql": "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables",
        "mysql": "SELECT sum(data_length + index_length) FROM information_schema.tables"
        " WHERE table_schema = database()",
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    }

    def __init__(self, url: str) -> None:
        super().__init__()
        self.storage = self._sql = SQLAlchemyStorage(url)
        self._sql.create_tables()
        self._engine = create_engine(url)

    def write(self, numbers: range) -> None:
        tables = self._sql.metadata.tables
        with self._engine.begin() as connection:
            rows = [self.connection(i).as_row() for i in numbers]
            connection.execute(insert(tables["finch_connections"]), rows)
            rows = [self.attempt(i).as_row() for i in numbers]
            connection.execute(insert(tables["finch_attempts"]), rows)

    def calm(self) -> None:
        databases.calm(self._engine)

    def bytes_kept(self) -> int:
        with self._engine.connect() as connection:
            size = connection.execute(text(self._SIZE[self._engine.dialect.name])).scalar_one()
            return int(size)


class InRedis(Subject):
    """In the memory of a Redis."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._redis = RedisStorage(url)
        self.storage = self._redis
        self._client = Redis.from_url(url)
        self._empty = self._memory()

    def write(self, numbers: range) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for number in numbers:
                plan = Plan()
                plan.replace(None, self.attempt(number))
                plan.replace(None, self.connection(number))
                given = plan.arguments("{finch}:")
                pipe.eval(COMPARE_AND_WRITE, len(given["keys"]), *given["keys"], *given["args"])
            pipe.execute()

    def calm(self) -> None:
        """It leaves nothing for later."""

    def bytes_kept(self) -> int:
        return self._memory() - self._empty

    def _memory(self) -> int:
        found: Any = self._client.info("memory")
        return int(found["used_memory"])


def _cost(name: str, work: Callable[[int], object], *, times: int) -> Cost:
    taken = []
    for turn in range(times):
        began = time.perf_counter()
        work(turn)
        taken.append((time.perf_counter() - began) * 1000)
    return Cost(name=name, median=statistics.median(taken), slow=sorted(taken)[-times // 100 - 1])


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", help=databases.HELP)
    parser.add_argument("--to", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=200)
    given = parser.parse_args()
    with databases.named(given.database) as url:
        in_redis = url.startswith(("redis", "unix"))
        subject: Subject = InRedis(url) if in_redis else InSQL(url)
        size = 1_000
        while size <= given.to:
            subject.grow(to=size)
            pair = subject.bytes_kept() / size
            print(f"{size} connections and attempts, {pair:.0f} bytes for a pair of them")
            for cost in subject.measured(times=given.times):
                print(f"  {cost.name:<14} {cost.median:8.2f} ms  {cost.slow:8.2f} ms", flush=True)
            size *= 10


if __name__ == "__main__":
    main()
