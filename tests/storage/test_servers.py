"""The SQL storage on PostgreSQL and on MariaDB, the same promises and faults on each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine

from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.storage_contract import StorageContract
from tests.storage.sql_contract import SQLContract
from tests.storage.test_storage_contract import RACES
from tests.storages import emptied


@pytest.fixture(params=["postgresql", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    """A database with our tables, empty."""
    return emptied(request.getfixturevalue(request.param).url)


class TestServer(SQLContract):
    @pytest.fixture
    def cut_connections(self, cut_connections: Callable[[], None]) -> Callable[[], None]:
        return cut_connections


@pytest.mark.full
@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_strictest_engine_of_an_application_keeps_the_promises_of_races(
    url: str, race: Callable[[StorageContract, Storage], None]
) -> None:
    engine = create_engine(url, isolation_level="SERIALIZABLE")

    race(StorageContract(), SQLAlchemyStorage(engine))

    engine.dispose()
