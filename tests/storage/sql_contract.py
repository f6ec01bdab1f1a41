"""The contract on an SQL database, whose confirmations can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from tests.storages import ContractByUrl


class SQLContract(ContractByUrl):
    kind = SQLAlchemyStorage

    @pytest.fixture
    def unconfirmed(self, storage: Any) -> Callable[[], AbstractContextManager[None]]:
        """The commits succeed and their confirmations are lost, while it is entered."""
        return partial(around_commits, storage, after=lose_the_confirmation)


@contextmanager
def around_commits(
    storage: Any, *, before: Callable[[], object] = bool, after: Callable[[], object] = bool
) -> Iterator[None]:
    """Call these around each commit of a claim or of an end."""
    dialect = storage._database.dialect
    commit = dialect.commit

    def observed(*given: Any) -> None:
        before()
        commit(*given)
        after()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "commit", observed)
        yield


def lose_the_confirmation() -> None:
    raise OperationalError("", None, ConnectionError())
