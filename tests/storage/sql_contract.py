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

    def observed(commit: Callable[..., Any], *given: Any) -> Any:
        before()
        result = commit(*given)
        after()
        return result

    with pytest.MonkeyPatch.context() as patch:
        for name in ("change", "commit"):
            patch.setattr(dialect, name, partial(observed, getattr(dialect, name)))
        yield


def lose_the_confirmation() -> None:
    raise OperationalError("", None, ConnectionError())
