"""What the application asks afterwards: whose connections there are, and their tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import timedelta

from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import StorageUnavailable
from finch_middleware.finch.client import FinchClient
from finch_middleware.records import Connection, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage

DEADLINE = timedelta(seconds=10)
# A row that changes under each of so many tries is being written by somebody's loop.
_TRIES = 5
_WORD = re.compile(r"[a-z_]{1,64}")


class Connections:
    """The stored connections of one client_id. Listing decrypts nothing and asks nobody."""

    def __init__(self, *, client_id: str, storage: Storage, vault: Vault, api: FinchClient) -> None:
        self._client_id = client_id
        self._storage = storage
        self._vault = vault
        self._api = api

    def for_customer(self, customer_id: str) -> list[Connection]:
        """
        A customer's connections, the most recently connected first.

        Raises:
            StorageUnavailable: The storage did not answer.
        """
        rows = self._storage.for_customer(customer_id)
        return [self._connection(row) for row in rows if self._ours(row, customer_id)]

    def get(self, connection_id: str, *, customer_id: str) -> Connection | None:
        """
        That connection, if it is this customer's; None for anybody else's.

        Raises:
            StorageUnavailable: The storage did not answer.
        """
        row = self._row(connection_id, customer_id)
        return self._connection(row) if row is not None else None

    def refresh(self, connection_id: str, *, customer_id: str) -> Connection | None:
        """
        That connection with Finch's present word on its `status`, stored; None as for `get`.

        ``connected``, ``pending``, ``processing``, ``reauth``, ``disconnected`` and others:
        Finch may add words. Source: Finch, ``GET /introspect``.

        Raises:
            FinchRefused: Finch does not take the token (any more).
            FinchUnavailable: Finch did not answer; nothing was changed.
            CannotOpen: The row was altered, or its key is not at hand.
            StorageUnavailable: The storage did not confirm.
        """
        for _ in range(_TRIES):
            row = self._row(connection_id, customer_id)
            if row is None:
                return None
            told = self._api.introspect(self._token(row), within=DEADLINE)
            renewed = dataclasses.replace(row, status=_status(told) or row.status)
            if self._storage.swap(row, renewed):
                return self._connection(renewed)
        raise StorageUnavailable("busy")

    def disconnect(self, connection_id: str, *, customer_id: str) -> bool:
        """
        End the connection at Finch, then forget it here. Whether there was one.

        Cannot be undone: Finch ends every token of this employer and provider, and billing.
        Not needed, and wrong, for one that only wants to be re-authenticated; for that, `begin`.
        Source: Finch, ``POST /disconnect``.

        Raises:
            FinchRefused: Finch does not take the token (any more); the row stays. Where an
                earlier call ended the connection and the row outlived it: `forget`.
            FinchUnavailable: Finch may or may not have acted; the row stays, ask again.
            CannotOpen: The row was altered, or its key is not at hand; nothing was asked.
            StorageUnavailable: The storage did not confirm.
        """
        row = self._row(connection_id, customer_id)
        if row is None:
            return False
        self._api.disconnect(self._token(row), within=DEADLINE)
        # The token first: without it the connection could never be ended.
        return self._storage.delete(connection_id)

    def forget(self, connection_id: str, *, customer_id: str) -> bool:
        """
        Remove the connection here and ask nobody. Whether there was one.

        For one that Finch has ended already. Of a connection that still lives the token is lost,
        and with it the only way to `disconnect`: Finch goes on billing it.

        Raises:
            StorageUnavailable: The storage did not confirm.
        """
        row = self._row(connection_id, customer_id)
        return row is not None and self._storage.delete(connection_id)

    def _row(self, connection_id: str, customer_id: str) -> StoredConnection | None:
        row = self._storage.get(connection_id)
        return row if row is not None and self._ours(row, customer_id) else None

    def _token(self, row: StoredConnection) -> Secret:
        return Secret(self._connection(row).access_token.reveal())

    def _ours(self, row: StoredConnection, customer_id: str) -> bool:
        return row.client_id == self._client_id and row.customer_id == customer_id

    def _connection(self, row: StoredConnection) -> Connection:
        return Connection.of(row, lambda: self._vault.open_grant(row))


def _status(told: Mapping[str, object]) -> str | None:
    """The status word of an introspection, if it has the shape of one."""
    status = told.get("connection_status")
    word = status.get("status") if isinstance(status, Mapping) else None
    return word if isinstance(word, str) and _WORD.fullmatch(word) else None
