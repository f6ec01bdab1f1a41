"""What the application asks later: a customer's connections, and their tokens."""

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
# A row that changes during each of these tries is being rewritten in a loop elsewhere.
_TRIES = 5
_WORD = re.compile(r"[a-z_]{1,64}")


class Connections:
    """The stored connections of one client_id. Listing decrypts nothing and makes no call."""

    def __init__(
        self, *, client_id: str, storage: Storage, vault: Vault, client: FinchClient
    ) -> None:
        self._client_id = client_id
        self._storage = storage
        self._vault = vault
        self._client = client

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
        That connection with Finch's current `status`, stored; None as for `get`.

        ``connected``, ``pending``, ``processing``, ``reauth``, ``disconnected`` and others:
        Finch may add words. Source: Finch, ``GET /introspect``.

        Raises:
            FinchRefused: Finch does not take the token (any more).
            FinchUnavailable: Finch did not answer; nothing was changed.
            CannotOpen: The row was altered, or its key is not available.
            StorageUnavailable: The storage did not confirm.
        """
        for _ in range(_TRIES):
            row = self._row(connection_id, customer_id)
            if row is None:
                return None
            introspection = self._client.introspect(self._token(row), within=DEADLINE)
            renewed = dataclasses.replace(row, status=_status(introspection) or row.status)
            if self._storage.swap(row, renewed):
                return self._connection(renewed)
        raise StorageUnavailable("busy")

    def disconnect(self, connection_id: str, *, customer_id: str) -> bool:
        """
        End the connection at Finch, then forget it here. Whether there was one.

        Cannot be undone: Finch ends every token of this employer and provider, and billing.
        Wrong for a connection that only needs re-authentication: use `begin` for that.
        Source: Finch, ``POST /disconnect``.

        Raises:
            FinchRefused: Finch does not take the token (any more); the row stays. Where an
                earlier call ended the connection and the row outlived it: `forget`.
            FinchUnavailable: Finch may or may not have acted; the row stays, ask again.
            CannotOpen: The row was altered, or its key is not available; nothing was asked.
            StorageUnavailable: The storage did not confirm.
        """
        row = self._row(connection_id, customer_id)
        if row is None:
            return False
        self._client.disconnect(self._token(row), within=DEADLINE)
        # The token first: without it the connection could never be ended.
        return self._storage.delete(connection_id)

    def forget(self, connection_id: str, *, customer_id: str) -> bool:
        """
        Remove the connection here without calling Finch. Whether there was one.

        Only for a connection that Finch has ended. Otherwise its token is lost, and with it the
        only way to `disconnect`: Finch continues to bill it.

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


def _status(introspection: Mapping[str, object]) -> str | None:
    """The status word of an introspection, if it has the shape of one."""
    status = introspection.get("connection_status")
    word = status.get("status") if isinstance(status, Mapping) else None
    return word if isinstance(word, str) and _WORD.fullmatch(word) else None
