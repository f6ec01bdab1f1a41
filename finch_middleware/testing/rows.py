"""Stored connections for tests that need a row without a flow."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from finch_middleware.attempts import AttemptState
from finch_middleware.connect import FinchConnect
from finch_middleware.crypto.opened import Connection
from finch_middleware.records import Grant
from finch_middleware.secret import Secret
from finch_middleware.testing.sample_records import an_attempt


def add_connection(
    finch: FinchConnect,
    *,
    customer_id: str,
    connection_id: str | None = None,
    access_token: str | None = None,
    provider_id: str = "gusto",
    products: Sequence[str] = ("company", "directory"),
    entity_ids: Sequence[str] = (),
    obtained_at: datetime | None = None,
) -> Connection:
    """
    Store a connection of *customer_id* in the storage of *finch*, sealed with its key.

    Omitted ids and the token are random; Finch does not know the token.

    Raises:
        StorageUnavailable: It could not be written.
    """
    connection_id = connection_id or str(uuid.uuid4())
    now = obtained_at or datetime.now(UTC)
    ids = {"connection_id": connection_id, "customer_id": customer_id}
    document = {"access_token": access_token or str(uuid.uuid4()), **ids}
    grant = Grant(
        document=Secret(json.dumps(document)),
        connection_id=connection_id,
        customer_id=customer_id,
        provider_id=provider_id,
        products=tuple(products),
        entity_ids=tuple(entity_ids),
        client_type="sandbox",
        connection_type="provider",
    )
    attempt = an_attempt(
        uuid.uuid4().hex,
        client_id=finch.settings.client_id,
        customer_ids=(customer_id,),
        reference="TESTTEST",
        claimed_at=now,
    ).settled(AttemptState.STORED, at=now, **ids)
    stored = finch.vault.seal_connection(grant, attempt=attempt, at=now)
    finch.storage.settle(attempt, stored)
    connection = finch.connections.get(connection_id, customer_id=customer_id)
    assert connection is not None
    return connection
