"""Empty storages of every kind, on database servers that start when a test first needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from redis import Redis
from sqlalchemy import Engine, Table, create_engine
from sqlalchemy.pool import NullPool

from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.storage_contract import StorageContract
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.storage import servers

ServerOf = Callable[[str], servers.Server]
StorageOn = Callable[..., Storage]

SERVERS = ["postgresql", "mysql", "redis"]
#: For tests of what the storage decides; the others run on memory.
every_storage = pytest.mark.parametrize(
    "storage_options", ["memory", "sqlite", *SERVERS], indirect=True
)


@pytest.fixture(scope="session")
def server_of() -> Iterator[ServerOf]:
    """The database server of a kind, one for the whole run."""
    with ExitStack() as stack:

        @functools.cache
        def server_of(kind: str) -> servers.Server:
            serving = contextmanager(servers.served)(kind, getattr(servers, kind))
            return stack.enter_context(serving)

        yield server_of


@pytest.fixture(params=["memory"])
def storage_options(
    request: pytest.FixtureRequest, tmp_path: Path, patient: None
) -> dict[str, Any]:
    """The storage options of FinchConnect for an empty storage; see `every_storage`."""
    return options_of(request.param, request=request, folder=tmp_path)


def options_of(kind: str, *, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """The storage options of FinchConnect for an empty storage of that kind."""
    if kind == "memory":
        return {"storage": MemoryStorage(), "spool": folder / "spool"}
    if kind == "sqlite":
        return {"storage": f"sqlite:///{folder}/finch.db"}
    server: servers.Server = request.getfixturevalue("server_of")(kind)
    return {"storage": emptied(server.url), "spool": folder / "spool"}


def reopened(kind: Callable[..., Storage], url: str, **options: Any) -> Storage:
    """Another handle to a storage, as patient in another process as the test is in its own."""
    wait_for_databases(PATIENCE_SECONDS)
    return kind(url, **options)


class ContractByUrl(StorageContract):
    """
    The contract on a storage that a URL opens; the fixture `url` names an empty one.

    Attributes:
        kind: Makes the storage.
    """

    kind: ClassVar[Callable[[str], Any]]

    @pytest.fixture
    def storage(self, url: str) -> Iterator[Storage]:
        storage = type(self).kind(url)
        yield storage
        storage.close()

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Storage]:
        return functools.partial(reopened, type(self).kind, url)


def emptied(url: str) -> str:
    """The same *url*, whose database now has our tables and no row."""
    if url.startswith(("redis", "unix")):
        with Redis.from_url(url) as client:
            client.flushdb()
        return url
    engine, tables = _with_tables(url)
    with engine.begin() as connection:
        for table in tables:
            connection.execute(table.delete())
    return url


@functools.cache
def _with_tables(url: str) -> tuple[Engine, list[Table]]:
    """An Engine for that server, and our tables, which it has from now on."""
    storage = SQLAlchemyStorage(url)
    storage.create_tables()
    storage.close()
    return create_engine(url, poolclass=NullPool), storage.metadata.sorted_tables
