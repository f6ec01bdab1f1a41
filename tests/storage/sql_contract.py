"""The contract on an SQL database, whose confirmations can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from finch_middleware.storage.sql import database
from finch_middleware.testing.storage_contract import StorageContract


class SQLContract(StorageContract):
    @pytest.fixture
    def unconfirmed(self) -> Callable[[], AbstractContextManager[None]]:
        """The commits succeed and their confirmations are lost, while it is entered."""
        return partial(around_commits, after=lose_the_confirmation)


@contextmanager
def around_commits(
    *, before: Callable[[], object] = bool, after: Callable[[], object] = bool
) -> Iterator[None]:
    """Call these around each COMMIT of an SQL storage."""
    run = database.run

    def observed(connection: Any, commit: str) -> Any:
        before()
        ran = run(connection, commit)
        after()
        return ran

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "run", observed)
        yield


def lose_the_confirmation() -> None:
    raise OperationalError("", None, ConnectionError())
