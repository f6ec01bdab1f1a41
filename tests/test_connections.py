from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware.connections import Connections
from finch_middleware.crypto.opened import Connection
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import StorageUnavailable
from finch_middleware.finch.client import FinchClient
from finch_middleware.hooks.events import Events
from finch_middleware.hooks.status import StatusHooks
from finch_middleware.records import StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt
from tests.faulty_storage import FaultyStorage
from tests.keys import a_key, a_vault

TOKEN = "t0k3n-c4n4ry"
ANSWER = Secret(json.dumps({"access_token": TOKEN, "customer_name": "Acme", "entity_ids": ["e-1"]}))


VAULT = a_vault()
NO_API = FinchClient(client_id="client", client_secret=Secret("-"), api_url="http://127.0.0.1:9")


class CountingVault(Vault):
    """Counts what it opens."""

    opened = 0

    def open_grant(self, stored: StoredConnection) -> Secret:
        self.opened += 1
        return VAULT.open_grant(stored)


def sealed_row(
    connection_id: str, *, customer_id: str = "acme", **changes: Any
) -> StoredConnection:
    token = VAULT.seal_grant(ANSWER, connection_id=connection_id, customer_id=customer_id)
    return a_connection(connection_id, customer_id=customer_id, sealed=token, **changes)


def connections_in(storage: Storage, *, vault: Vault = VAULT) -> Connections:
    return Connections(
        client_id="client",
        storage=storage,
        vault=vault,
        api=NO_API,
        statuses=StatusHooks(
            on_status=None,
            on_disconnected=None,
            storage=storage,
            events=Events(client_id="client", on_event=None),
            clock=lambda: NOON,
            history_retention=timedelta(days=1),
        ),
    )


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def connections(storage: MemoryStorage) -> Connections:
    return connections_in(storage)


def keep(storage: MemoryStorage, *rows: StoredConnection) -> None:
    for row in rows:
        storage.settle(an_attempt(row.connection_id), row)


def test_a_customer_has_their_own_connections_the_newest_first(
    storage: MemoryStorage, connections: Connections
) -> None:
    keep(
        storage,
        sealed_row("old"),
        sealed_row("new", obtained_at=NOON + timedelta(days=1)),
        sealed_row("theirs", customer_id="other"),
        sealed_row("elsewhere", client_id="another client"),
    )

    found = connections.for_customer("acme")

    assert [each.connection_id for each in found] == ["new", "old"]
    assert connections.for_customer("nobody") == []


def test_a_connection_is_given_to_its_customer_alone(
    storage: MemoryStorage, connections: Connections
) -> None:
    keep(storage, sealed_row("c-1"), sealed_row("c-2", client_id="another client"))

    found = connections.get("c-1", customer_id="acme")

    assert isinstance(found, Connection)
    assert (found.connection_id, found.customer_id) == ("c-1", "acme")
    assert connections.get("c-1", customer_id="other") is None
    assert connections.get("c-2", customer_id="acme") is None
    assert connections.get("c-3", customer_id="acme") is None


def test_listing_opens_nothing_and_only_reveal_shows_the_token(storage: MemoryStorage) -> None:
    vault = CountingVault(client_id="client", key=a_key())
    keep(storage, sealed_row("c-1"))

    (found,) = connections_in(storage, vault=vault).for_customer("acme")

    assert vault.opened == 0
    assert TOKEN not in repr(found) + str(found) + repr(found.access_token)
    assert found.access_token.reveal() == TOKEN
    assert vault.opened == 1


def test_the_details_are_the_rest_of_the_answer(
    storage: MemoryStorage, connections: Connections
) -> None:
    keep(storage, sealed_row("c-1"))

    (found,) = connections.for_customer("acme")

    assert found.details() == {"customer_name": "Acme", "entity_ids": ["e-1"]}


def test_each_connection_opens_its_own_token(
    storage: MemoryStorage, connections: Connections
) -> None:
    for number in range(3):
        answer = Secret(json.dumps({"access_token": f"token-{number}"}))
        token = VAULT.seal_grant(answer, connection_id=f"c-{number}", customer_id="acme")
        keep(storage, a_connection(f"c-{number}", sealed=token))

    found = connections.for_customer("acme")

    assert {each.connection_id[-1]: each.access_token.reveal()[-1] for each in found} == {
        "0": "0",
        "1": "1",
        "2": "2",
    }


def test_an_unavailable_storage_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    storage = FaultyStorage(MemoryStorage())
    storage.down("get")
    caplog.set_level(logging.DEBUG)
    connections = connections_in(storage)

    with pytest.raises(StorageUnavailable):
        connections.get("c-1", customer_id="acme")
