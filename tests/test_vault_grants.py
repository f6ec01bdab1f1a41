"""Finch's grants as the vault seals them: into a row, into quarantine, and under a new key."""

from __future__ import annotations

import pytest

from finch_middleware.crypto.vault import Vault, pack
from finch_middleware.errors import CannotOpen
from finch_middleware.records import Entity, SealedToken, StoredConnection, StoredToken
from finch_middleware.secret import Secret
from finch_middleware.storage.history import HistoryEntry, entries_of
from finch_middleware.testing.sample_records import NOON, an_attempt
from tests.exchanging import a_grant
from tests.keys import a_key

PLAIN = "the-token-itself"
K0, K1 = a_key("k0"), a_key("k1")
VAULT = Vault(client_id="client", key=K1, accepted_keys=[K0])


def row_of(sealed: SealedToken, *, customer_id: str = "acme") -> StoredToken:
    return StoredToken(
        connection_id="c", customer_id=customer_id, client_id="client", sealed=sealed
    )


def test_what_an_older_key_sealed_is_resealed_and_nothing_else_is() -> None:
    place = {"connection_id": "c", "customer_id": "acme"}
    before = Vault(client_id="client", key=K0).seal_grant(Secret(PLAIN), **place)

    resealed = VAULT.reseal_grant(row_of(before))

    assert resealed is not None
    after = row_of(resealed)
    assert Vault(client_id="client", key=K1).open_grant(after) == Secret(PLAIN)
    assert VAULT.reseal_grant(after) is None
    altered = [SealedToken(text=text) for text in ("rubbish", resealed.text + "!")]
    for each in (*map(row_of, altered), row_of(before, customer_id="another")):
        with pytest.raises(CannotOpen):
            VAULT.reseal_grant(each)


def test_a_quarantined_grant_opens_for_its_attempt_alone() -> None:
    older = Vault(client_id="client", key=K0)
    held = an_attempt(sealed=older.seal_quarantined(Secret(PLAIN), attempt_id="attempt-code"))

    resealed = VAULT.reseal_grant(held)

    assert resealed is not None
    after = an_attempt(sealed=resealed)
    assert VAULT.open_grant(held) == VAULT.open_grant(after) == Secret(PLAIN)
    assert VAULT.open(resealed.text, purpose="quarantine", context=pack("attempt-code")) == PLAIN
    for each in (an_attempt(attempt_id="another", sealed=resealed), an_attempt()):
        with pytest.raises(CannotOpen):
            VAULT.open_grant(each)


def test_a_grant_is_sealed_into_the_row_of_its_attempt() -> None:
    attempt = an_attempt(connection_id="c", customer_id="acme")
    grant = a_grant(entity_ids=("e-1", "e-2"))

    row = VAULT.seal_connection(grant, attempt=attempt, at=NOON)
    without_ids = VAULT.seal_connection(a_grant(), attempt=an_attempt(), at=NOON)

    expected = StoredConnection(
        connection_id="c",
        customer_id="acme",
        client_id=attempt.client_id,
        provider_id="gusto",
        products=("company", "directory"),
        client_type="sandbox",
        connection_type="provider",
        entities=(Entity(id="e-1"), Entity(id="e-2")),
        sealed=row.sealed,
        obtained_at=NOON,
        attempt_id=attempt.attempt_id,
        history=row.history,
    )
    assert row == expected
    assert entries_of(row) == [
        HistoryEntry(
            at=NOON,
            event="connected",
            customer_id="acme",
            provider_id="gusto",
            products=("company", "directory"),
            entity_ids=("e-1", "e-2"),
            attempt_id=attempt.attempt_id,
            reference=attempt.reference,
            key_id="k1",
        )
    ]
    assert VAULT.open_grant(row) == grant.document
    assert (without_ids.connection_id, without_ids.customer_id) == ("", "")
