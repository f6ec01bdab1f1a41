"""The contract on an SQL database, whose confirmations can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from finch_middleware.testing.storage_contract import StorageContract


class SQLContract(StorageContract):
    @pytest.fixture
    def unconfirmed(self, storage: Any) -> Callable[[], AbstractContextManager[None]]:
        """The commits succeed and their confirmations are lost, while it is entered."""
        engine = storage._database._engine

        @contextmanager
        def unconfirmed() -> Iterator[None]:
            event.listen(engine, "after_cursor_execute", _lose_the_confirmation)
            try:
                yield
            finally:
                event.remove(engine, "after_cursor_execute", _lose_the_confirmation)

        return unconfirmed


def _lose_the_confirmation(*call: Any) -> None:
    if call[2] == "COMMIT":
        raise OperationalError("", None, ConnectionError())
