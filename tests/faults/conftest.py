from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import crash_campaign
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.disks import mounted
from tests.storage import servers
from tests.storages import ServerOf, emptied
from tests.story.conftest import (
    callback,
    every_token_is_accounted_for,
    faulty,
    faulty_site,
    no_secret_is_reported,
)

#: Fixtures of the story that hold for faults too.
__all__ = [
    "callback",
    "every_token_is_accounted_for",
    "faulty",
    "faulty_site",
    "no_secret_is_reported",
]


@pytest.fixture(autouse=True)
def _patient(patient: None) -> None:
    """Whatever races here ends as it must, on a machine however busy."""


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
def proxy(server_of: ServerOf) -> Iterator[CuttingProxy]:
    """In front of the PostgreSQL."""
    proxy = CuttingProxy(server_of("postgresql").url)
    yield proxy
    proxy.close()


@pytest.fixture
def storage_on() -> Iterator[Callable[[servers.Server], Storage]]:
    """Makes an empty storage on a server of this run; closed when the test is over."""
    opened: list[SQLAlchemyStorage | RedisStorage] = []

    def storage_on(server: servers.Server, *, url: Any = None) -> Storage:
        if not server.owned:
            pytest.skip("this server is not ours to stop")
        emptied(server.url)
        kind = RedisStorage if server.url.startswith("unix:") else SQLAlchemyStorage
        opened.append(kind(url or server.url))
        return opened[-1]

    yield storage_on
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[crash_campaign.Campaign]:
    """Workers on SQLite whose system calls fail as a test scripts; each end is accounted for."""
    with crash_campaign.running("stored") as campaign:
        yield campaign
    assert not campaign.figures.faults
