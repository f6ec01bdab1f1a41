"""What the application asks later: a customer's connections, and their tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from finch_middleware.config.customers import require_text
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

#: How `Connections.disconnect` ended.
Disconnection = Literal["ended", "ended_before", "renewed"]


class Connections:
    """The stored connections of one client_id. Listing decrypts nothing and makes no call."""

    def __init__(
        self,
        *,
        client_id: str,
        storage: Storage,
        vault: Vault,
        client: FinchClient,
        clock: Callable[[], datetime],
    ) -> None:
        self._client_id = client_id
        self._storage = storage
        self._vault = vault
        self._client = client
        self._clock = clock

    def for_customer(self, customer_id: str) -> list[Connection]:
        """
        A customer's connections, the most recently connected first.

        Raises:
            UsageError: customer_id is not text.
            StorageUnavailable: The storage did not answer.
        """
        require_text(customer_id=customer_id)
        rows = self._storage.for_customer(customer_id)
        return [self._connection(row) for row in rows if self._ours(row, customer_id)]

    def get(self, connection_id: str, *, customer_id: str) -> Connection | None:
        """
        That connection, if it is this customer's; None for anybody else's.

        Raises:
            UsageError: An id is not text.
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
            UsageError: An id is not text.
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

    def disconnect(self, connection_id: str, *, customer_id: str) -> Disconnection | None:
        """
        End the connection at Finch, then remove it here. None as for `get`. Safe to repeat.

        ``ended``: Finch ended it now. ``ended_before``: Finch had ended its token before.
        ``renewed``: the token that was read has ended, but a re-authentication stored a newer
        one meanwhile, which stays; disconnect again to end that one as well.

        Cannot be undone: Finch ends every token of this employer and provider, and billing.
        Wrong for a connection that only needs re-authentication: use `begin` for that.
        Source: Finch, ``POST /disconnect``.

        Raises:
            UsageError: An id is not text.
            FinchRefused: Finch does not accept the token and does not state that it has ended,
                for example ``reauthenticate_user``. The row stays: Finch still bills it.
            FinchUnavailable: Finch may or may not have acted; the row stays, call again.
            CannotOpen: The row was altered, or its key is not available; nothing was asked.
            StorageUnavailable: The storage did not confirm; call again.
        """
        row = self._row(connection_id, customer_id)
        if row is None:
            return None
        # Finch first: without the row's token the connection could never be ended.
        ended_now = self._client.disconnect(self._token(row), within=DEADLINE)
        if not self._remove(row):
            return "renewed"
        return "ended" if ended_now else "ended_before"

    def forget(self, connection_id: str, *, customer_id: str) -> bool:
        """
        Remove the connection here without calling Finch. Whether it was removed.

        Only for a connection that Finch has ended. Otherwise its token is lost, and with it the
        only way to `disconnect`: Finch continues to bill it.

        Raises:
            UsageError: An id is not text.
            StorageUnavailable: The storage did not confirm.
        """
        row = self._row(connection_id, customer_id)
        return row is not None and self._remove(row)

    def _remove(self, row: StoredConnection) -> bool:
        """Replace the row by its tombstone. False: it has another token by now, and stays."""
        current: StoredConnection | None = row
        for _ in range(_TRIES):
            if current is None:
                return True
            if current.attempt_id != row.attempt_id:
                return False
            if self._storage.delete(current, at=self._clock()):
                return True
            # Its status was refreshed, or its token sealed under another key.
            current = self._storage.get(row.connection_id)
        raise StorageUnavailable("busy")

    def _row(self, connection_id: str, customer_id: str) -> StoredConnection | None:
        require_text(connection_id=connection_id, customer_id=customer_id)
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
