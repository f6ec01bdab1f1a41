from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from benchmarks import crash_campaign
from finch_middleware import exchange
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.redis import storage as redis_storage
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.storage.sql import dialects
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import mounted
from tests.storage import servers
from tests.story.conftest import (
    every_token_is_accounted_for,
    faulty,
    faulty_site,
    nothing_secret_is_told,
)

#: Fixtures of the story that hold for faults too.
__all__ = [
    "every_token_is_accounted_for",
    "faulty",
    "faulty_site",
    "nothing_secret_is_told",
]


@pytest.fixture
def storage_options(tmp_path: Path) -> dict[str, Any]:
    """SQLite, unless a test brings a server."""
    return {"storage": f"sqlite:///{tmp_path}/finch.db", "spool": tmp_path / "spool"}


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of a quarter of a mebibyte."""
    with mounted(kibibytes=256) as folder:
        yield folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    yield from servers.served("postgresql", servers.postgresql)


@pytest.fixture(scope="session")
def mysql() -> Iterator[servers.Server]:
    yield from servers.served("mysql", servers.mysql)


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.Server]:
    yield from servers.served("redis", servers.redis)


@pytest.fixture(scope="session")
def proxy(postgresql: servers.Server) -> Iterator[CuttingProxy]:
    """In front of the PostgreSQL."""
    with CuttingProxy(postgresql) as proxy:
        yield proxy


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pauses between the tries to settle."""
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage made from now on waits for its database half a second."""
    monkeypatch.setattr(dialects, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(redis_storage, "_PATIENCE_SECONDS", 0.5)


@pytest.fixture
def storage_on() -> Iterator[Callable[[servers.Server], Storage]]:
    """Makes a storage on a server of a test's own; closed when the test is over."""
    opened: list[SQLAlchemyStorage | RedisStorage] = []

    def storage_on(server: servers.Server, *, url: str | None = None) -> Storage:
        if not server.owned:
            pytest.skip("not our server to hurt")
        if server.url.startswith("unix:"):
            with Redis.from_url(server.url) as client:
                client.flushdb()
            opened.append(RedisStorage(server.url))
        else:
            _empty_tables(server.url)
            opened.append(SQLAlchemyStorage(url or server.url))
        return opened[-1]

    yield storage_on
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[crash_campaign.Campaign]:
    """Workers on SQLite whose system calls fail as a test says; their ends are accounted for."""
    with crash_campaign.running("stored") as campaign:
        yield campaign
    assert not campaign.figures.faults


def _empty_tables(url: str) -> None:
    storage = SQLAlchemyStorage(url)
    storage.create_tables()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for table in storage.metadata.sorted_tables:
            connection.execute(table.delete())
    storage.close()
