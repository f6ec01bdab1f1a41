from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import KEY, Site, log_text
from tests.storage import servers
from tests.story.oracle import unaccounted


@pytest.fixture(scope="session")
def servers_in_use() -> Iterator[Callable[[str], str]]:
    """The URL of a database server, which starts when a story first needs it."""
    with ExitStack() as stack:

        @functools.cache
        def url_of(name: str) -> str:
            serving = contextmanager(servers.served)(name, getattr(servers, name))
            return stack.enter_context(serving).url

        yield url_of


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mysql", "redis"])
def storage_options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The storage options of FinchConnect, for each kind of storage in turn, empty."""
    return options_of(request.param, request=request, folder=tmp_path)


def options_of(kind: str, *, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """The storage options of FinchConnect for an empty storage of that kind."""
    if kind == "memory":
        return {"storage": MemoryStorage(), "spool": folder / "spool"}
    if kind == "sqlite":
        return {"storage": f"sqlite:///{folder}/finch.db"}
    url = request.getfixturevalue("servers_in_use")(kind)
    _empty(url)
    return {"storage": url, "spool": folder / "spool"}


def _empty(url: str) -> None:
    if url.startswith(("redis", "unix")):
        with Redis.from_url(url) as client:
            client.flushdb()
        return
    storage = SQLAlchemyStorage(url)
    storage.create_tables()
    storage.close()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for table in storage.metadata.sorted_tables:
            connection.execute(table.delete())


def _close(storage: Any) -> None:
    close = getattr(getattr(storage, "real", storage), "close", None)
    if close is not None:
        close()


@pytest.fixture
def faulty(storage_options: dict[str, Any]) -> FaultyStorage:
    """The storage in turn, with troubles on demand."""
    return FaultyStorage(open_storage(storage_options["storage"]))


@pytest.fixture
def faulty_site(make_site: Callable[..., Site], faulty: FaultyStorage, tmp_path: Path) -> Site:
    """A site on the faulty storage, with a spool."""
    return make_site(storage=faulty, spool=tmp_path / "spool")


@pytest.fixture(autouse=True)
def nothing_secret_is_told(
    fake: FakeFinch, sites: list[Site], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After every story: no log line and no event holds a secret, and nothing escaped."""
    caplog.set_level(logging.DEBUG)
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    told = log_text(records) + repr([site.events for site in sites])
    secrets = {fake.client_secret, KEY.partition(":")[2], *fake.ledger.tokens}
    secrets.update(issued.code for issued in fake.ledger.codes)
    secrets.update(*(site.secrets for site in sites))
    assert not [secret for secret in secrets if secret in told]
    assert not [error for site in sites for error in site.errors]


@pytest.fixture(autouse=True)
def every_token_is_accounted_for(
    fake: FakeFinch, sites: list[Site], tmp_path: Path
) -> Iterator[None]:
    """After every story: what Finch minted is kept, or reported; no other token is."""
    yield
    try:
        assert not unaccounted(fake, sites, folder=tmp_path)
    finally:
        # Last of all: a storage that is asked once more opens a connection once more.
        for site in sites:
            _close(site.finch.storage)
