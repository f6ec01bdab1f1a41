"""What the application asks later: a customer's connections, and their tokens."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack

from finch_middleware.config.customers import require_text
from finch_middleware.config.reading import read_some, take_options
from finch_middleware.config.settings import ConnectionSettings
from finch_middleware.crypto.opened import Connection
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import (
    CannotOpen,
    FinchRefused,
    FinchUnavailable,
    StorageUnavailable,
    UsageError,
)
from finch_middleware.finch.client import FinchClient
from finch_middleware.finch.responses import read_state
from finch_middleware.finch.sdk import FinchAuth, async_sdk_client, sdk_client
from finch_middleware.hooks.events import Events
from finch_middleware.hooks.status import StatusHooks
from finch_middleware.secret import Secret
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.shards import WHOLE, Shard

if TYPE_CHECKING:
    import finch

    from finch_middleware.config.options import Options
    from finch_middleware.records import StoredConnection
    from finch_middleware.storage.history import HistoryEntry
    from finch_middleware.storage.protocol import Storage

DEADLINE = timedelta(seconds=10)
# What `Connections.from_env` reads.
_OPTIONS = {each.name for each in fields(ConnectionSettings)} - {"client_secret"}
# Finch's limit is 1,000 requests in 300 seconds.
_MOST_PER_SECOND = 3.0

#: How `Connections.disconnect` ended.
Disconnection = Literal["ended", "ended_before", "renewed"]


@dataclass(kw_only=True, eq=False, repr=False)
class Connections:
    """
    The stored connections of one client_id. Listing decrypts nothing and makes no call.

    Each method raises UsageError for an id that is not text, and StorageUnavailable where the
    storage does not confirm: call again. Those that need the token raise, before Finch is
    asked, what `AccessToken.reveal` raises.
    """

    client_id: str
    storage: Storage
    vault: Vault
    api: FinchClient
    statuses: StatusHooks

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[Options]
    ) -> Connections:
        """
        The connections for a worker, from the ``FINCH_…`` variables; *overrides* come first.

        Needs the client_id, the storage and the keys, and no client secret.

        Raises:
            ConfigurationError: Lists everything that is wrong, and how to fix it.
        """
        given = [environ]
        del environ
        settings = read_some(take_options(given, overrides), _OPTIONS)
        # Only sessions and exchanges need it.
        return cls.of(ConnectionSettings(client_secret=Secret(""), **settings))

    @classmethod
    def of(cls, settings: ConnectionSettings) -> Connections:
        """
        The connections that these settings describe. Does no I/O.

        Raises:
            ConfigurationError: The driver of the storage does not take its URL.
        """
        client_id, storage = settings.client_id, open_storage(settings.storage)
        return cls(
            client_id=client_id,
            storage=storage,
            vault=Vault(
                client_id=client_id,
                key=settings.key,
                accepted_keys=settings.accepted_keys,
                key_provider=settings.key_provider,
            ),
            api=FinchClient(
                client_id=client_id,
                client_secret=settings.client_secret,
                api_url=settings.api_url,
                proxy=settings.proxy,
                ca_bundle=settings.ca_bundle,
            ),
            statuses=StatusHooks(
                on_status=settings.on_status,
                on_disconnected=settings.on_disconnected,
                storage=storage,
                events=Events(
                    client_id=client_id,
                    on_event=settings.on_event,
                    on_problem=settings.on_problem,
                ),
                clock=settings.clock,
                history_retention=settings.history_retention,
            ),
        )

    def for_customer(self, customer_id: str) -> list[Connection]:
        """A customer's connections, the most recently connected first."""
        require_text(customer_id=customer_id)
        rows = self.storage.for_customer(customer_id)
        return [self._connection(row) for row in rows if self._ours(row, customer_id)]

    def get(self, connection_id: str, *, customer_id: str) -> Connection | None:
        """That connection, if it is this customer's; None for anybody else's."""
        row = self._row(connection_id, customer_id)
        return self._connection(row) if row is not None else None

    def history(self, connection_id: str, *, customer_id: str | None = None) -> list[HistoryEntry]:
        """
        What happened to that connection, the oldest first; of an ended one as well.

        Empty where there is no such connection, where it is not this customer's, or once an
        ended one is older than the option `history_retention`. None: of whichever customer.
        """
        require_text(connection_id=connection_id, customer_id=customer_id or "")
        row = self.storage.row(connection_id)
        if row is None or row.client_id != self.client_id:
            return []
        entries = self.statuses.history(row)
        owners = [each.customer_id for each in entries if each.customer_id]
        return entries if customer_id is None or customer_id in owners[-1:] else []

    def client(self, connection: Connection, *, entity: str | None = None) -> finch.Finch:
        """
        Finch's own SDK with the token; it needs ``finch-middleware[sdk]``. Close it after use.

        *entity* is the one that its data calls name, where they name none: of a connection with
        several entities, one of its `entity_ids`. The client follows no redirect and uses no
        proxy of the environment. Where Finch responds that a person has to sign in again, the
        connection's status becomes ``reauth``.

        Raises:
            UsageError: The connection has no such entity.
            ImportError: The SDK is not installed.
        """
        return sdk_client(**self._of_sdk(connection, entity))

    def async_client(
        self, connection: Connection, *, entity: str | None = None
    ) -> finch.AsyncFinch:
        """`client` for ``await``; the token is opened in the calling thread."""
        return async_sdk_client(**self._of_sdk(connection, entity))

    def auth(self, connection: Connection) -> FinchAuth:
        """
        The ``auth=`` of a call of `requests` or `httpx` to Finch's API.

        It opens the token for each request, and refuses to add it to a request elsewhere.
        """
        return FinchAuth(connection.access_token.reveal, api_url=self.api.api_url)

    def refresh(self, connection_id: str, *, customer_id: str) -> Connection | None:
        """
        That connection with what Finch reports now, stored; None as for `get`.

        `status`, `status_message`, `synced_at` and `entities`. The status is ``connected``,
        ``pending``, ``processing``, ``reauth``, ``disconnected`` and others: Finch may add
        words. Source: Finch, ``GET /introspect``.

        Raises:
            FinchRefused: Finch does not accept the token (any longer). A token that needs a new
                login is no error: the status is then ``reauth``.
            FinchUnavailable: Finch did not answer; nothing was changed.
        """
        latest = functools.partial(self._row, connection_id, customer_id)
        stored = self.statuses.update(latest, self._asked, source="refresh")
        return self._connection(stored) if stored is not None else None

    def refresh_stale(
        self, *, older_than: timedelta, per_second: float = 1.0, shard: Shard | None = None
    ) -> Iterator[Counter[str]]:
        """
        `refresh` every connection of *shard* that was not asked about for so long; for a timer.

        Webhooks get lost, so a timer finds what they should have reported. Yields, after each
        connection that it asks about, how many have which status so far, or ended with which
        error's `code`. Finch allows 1,000 requests in five minutes from one address, and blocks
        the address for an hour after that: *per_second* is the share that this takes.

        Raises:
            UsageError: An argument is out of bounds.
            FinchUnavailable: With the reason ``throttled``: Finch asks everybody here to wait.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise UsageError("older_than must be a timedelta that is not negative")
        if not 0 < per_second <= _MOST_PER_SECOND:
            raise UsageError(f"per_second must be above 0 and at most {_MOST_PER_SECOND}")
        before = self.statuses.clock() - older_than
        return self._refresh_stale(before, pause_seconds=1 / per_second, shard=shard or WHOLE)

    def _refresh_stale(
        self, before: datetime, *, pause_seconds: float, shard: Shard
    ) -> Iterator[Counter[str]]:
        began = self.statuses.clock()
        results: Counter[str] = Counter()
        for row in self.storage.connections(shard):
            asked = row.checked_at
            due = asked is None or asked <= before or row.undecided_at is not None
            if row.client_id == self.client_id and self.statuses.complete(row) and due:
                if results:
                    time.sleep(pause_seconds)
                results[self._refreshed(row)] += 1
                yield Counter(results)
            elif asked is not None and asked > began:
                time.sleep(pause_seconds)  # another process has asked, and that takes a turn too

    def _refreshed(self, row: StoredConnection) -> str:
        """Its status after a `refresh`, or the code of the error that concerns it alone."""
        try:
            known = self.refresh(row.connection_id, customer_id=row.customer_id)
        except (FinchRefused, FinchUnavailable, CannotOpen) as fault:
            if isinstance(fault, FinchUnavailable) and fault.reason == "throttled":
                raise
            return fault.code
        return (known.status if known is not None else None) or "unknown"

    def _of_sdk(self, connection: Connection, entity: str | None) -> dict[str, Any]:
        if entity is not None and entity not in connection.entity_ids:
            raise UsageError("entity must be one of the connection's entity_ids")
        return {
            "token": connection.access_token.reveal(),
            "api_url": self.api.api_url,
            "entity_id": entity,
            "on_reauth": functools.partial(self._needs_login, connection),
        }

    def _needs_login(self, connection: Connection) -> None:
        """Store what Finch has just responded, unless another token was stored meanwhile."""
        with suppress(StorageUnavailable):
            row = self.storage.get(connection.connection_id)
            if row is not None and row.attempt_id == connection.attempt_id:
                reauth = dataclasses.replace(row, status="reauth", checked_at=self.statuses.clock())
                self.statuses.swap(row, reauth, source="data_call")

    def _asked(self, row: StoredConnection) -> StoredConnection:
        """The row with what Finch reports of its token now."""
        now = self.statuses.clock()
        try:
            state = read_state(self.api.introspect(self._token(row), within=DEADLINE))
        except FinchRefused as fault:
            if fault.finch_code != "reauthenticate_user":
                raise
            state = {"status": "reauth"}
        # Finch's response decides every event before it.
        return dataclasses.replace(row, **state, checked_at=now, undecided_at=None)

    def disconnect(self, connection_id: str, *, customer_id: str) -> Disconnection | None:
        """
        End the connection at Finch, then remove it here. None as for `get`. Safe to repeat.

        ``ended``: Finch ended it now. ``ended_before``: Finch had ended its token before.
        ``renewed``: the token that was read has ended, but a re-authentication stored a newer
        one meanwhile, which stays; disconnect again to end that one as well.

        Where `on_disconnected` raises, the row stays with the status ``disconnected``; call again.

        Cannot be undone: Finch ends every token of this employer and provider, and billing.
        Wrong for a connection that only needs re-authentication: use `begin` for that.
        Source: Finch, ``POST /disconnect``.

        Raises:
            FinchRefused: Finch does not accept the token and does not state that it has ended,
                for example ``reauthenticate_user``. The row stays: Finch still bills it.
            FinchUnavailable: Finch may or may not have acted; the row stays, call again.
        """
        row = self._row(connection_id, customer_id)
        if row is None:
            return None
        # Finch first: without the row's token the connection could never be ended.
        ended_now = self.api.disconnect(self._token(row), within=DEADLINE)
        if not self.statuses.end(row, source="disconnect"):
            return "renewed"
        return "ended" if ended_now else "ended_before"

    def disconnect_entities(
        self, connection_id: str, *, entity_ids: Collection[str], customer_id: str
    ) -> Connection | None:
        """
        End these entities at Finch; the token and the other entities stay. None as for `get`.

        Their status becomes ``disconnected``. Safe to repeat: Finch is asked about those alone
        that are not disconnected yet. A new login in Finch Connect can add them again.
        Source: Finch, ``POST /disconnect-entity``.

        Raises:
            UsageError: There is no entity id, or one is of another connection; nothing was asked.
            FinchRefused: Finch does not accept the token or these entities; nothing was changed.
            FinchUnavailable: Finch may or may not have acted; call again.
        """
        row = self._row(connection_id, customer_id)
        if row is None:
            return None
        present = {each.id: each.status for each in row.entities}
        if isinstance(entity_ids, str) or not entity_ids or not present.keys() >= set(entity_ids):
            raise UsageError("entity_ids must be a list of ids of this connection's entities")
        ended = [each for each in dict.fromkeys(entity_ids) if present[each] != "disconnected"]
        if not ended:
            return self._connection(row)
        self.api.disconnect_entities(self._token(row), ended, within=DEADLINE)
        # An event of an earlier second does not restore them.
        word: dict[str, Any] = {"status": "disconnected", "heard_at": self.statuses.clock()}

        def without_ended(current: StoredConnection) -> StoredConnection:
            if current.attempt_id != row.attempt_id:
                return current  # a later login may have added them again
            entities = tuple(
                dataclasses.replace(each, **word) if each.id in ended else each
                for each in current.entities
            )
            return dataclasses.replace(current, entities=entities)

        latest = functools.partial(self._row, connection_id, customer_id)
        stored = self.statuses.update(latest, without_ended, source="disconnect")
        return self._connection(stored) if stored is not None else None

    def forget(self, connection_id: str, *, customer_id: str) -> bool:
        """
        Remove the connection here without calling Finch. Whether it was removed.

        Only for a connection that Finch has ended. Otherwise its token is lost, and with it the
        only way to `disconnect`: Finch continues to bill it.
        """
        row = self._row(connection_id, customer_id)
        return row is not None and self.statuses.end(row, source="forget")

    def _row(self, connection_id: str, customer_id: str) -> StoredConnection | None:
        require_text(connection_id=connection_id, customer_id=customer_id)
        row = self.storage.get(connection_id)
        return row if row is not None and self._ours(row, customer_id) else None

    def _token(self, row: StoredConnection) -> Secret:
        return Secret(self._connection(row).access_token.reveal())

    def _ours(self, row: StoredConnection, customer_id: str) -> bool:
        return row.client_id == self.client_id and row.customer_id == customer_id

    def _connection(self, row: StoredConnection) -> Connection:
        return Connection.of(row, lambda: self.vault.open_grant(row))
