from __future__ import annotations

import base64
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finch_middleware.attempts import Attempt
from finch_middleware.cli.demo_traces import Traces, shortened
from finch_middleware.records import SealedToken, StoredConnection
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FIRST = StoredConnection(
    connection_id="connection-1",
    customer_id="acme",
    client_id="this-run",
    provider_id="gusto",
    products=("company",),
    client_type="production",
    connection_type="provider",
    sealed=SealedToken(text="fm1.k1.ciphertext"),
    obtained_at=NOON,
    attempt_id="attempt-1",
)
SECOND = dataclasses.replace(
    FIRST,
    connection_id="connection-2",
    customer_id="globex",
    obtained_at=NOON + timedelta(seconds=1),
)
OTHERS = dataclasses.replace(FIRST, connection_id="connection-3", client_id="another-run")


def store(storage: Storage, *connections: StoredConnection) -> None:
    for number, connection in enumerate(connections):
        claimed = Attempt(
            attempt_id=f"attempt-{number}",
            code_hash=bytes([number]) * 32,
            client_id=connection.client_id,
            customer_ids=(connection.customer_id,),
            reference="ABCDEFGH",
            claimed_at=NOON,
            leased_until=NOON,
        )
        storage.settle(claimed, connection)


@pytest.fixture(params=["told", "file"])
def traces(request: pytest.FixtureRequest, tmp_path: Path) -> Traces:
    """Of a storage that holds three connections, one of them another run's."""
    url = "memory://" if request.param == "told" else f"sqlite:///{tmp_path}/finch.db"
    storage = MemoryStorage() if request.param == "told" else SQLAlchemyStorage(url)
    store(storage, SECOND, FIRST, OTHERS)
    log = tmp_path / "application.log"
    log.write_text("a line\n")
    return Traces(storage, url=url, client_id="this-run", customers=["acme", "globex"], log=log)


def test_the_rows_are_those_of_this_run_in_their_order(traces: Traces) -> None:
    rows = traces.rows()

    assert [row["connection_id"] for row in rows] == ["connection-1", "connection-2"]
    assert rows[0].keys() == FIRST.as_row().keys()
    assert rows[0]["sealed"] == "fm1.k1.ciphertext"


@pytest.mark.parametrize(
    ("text", "held"), [("connection-2", True), ("a line", True), ("elsewhere", False)]
)
def test_what_is_in_the_rows_or_in_the_log_is_found(traces: Traces, text: str, held: bool) -> None:
    assert traces.hold(text) is held


def test_what_is_only_beside_them_is_not_searched(traces: Traces, tmp_path: Path) -> None:
    (tmp_path / "finch.db-backup").write_text("elsewhere")

    assert traces.hold("elsewhere") is False
    assert "application.log" in traces.searched


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(nothing)"),
        ("gusto", "gusto"),
        (bytes(range(32)), "000102030405... (32 bytes)"),
        (
            "fm1.k1." + base64.b64encode(bytes(300)).decode(),
            "fm1.k1.AAAAAAAAAAAAAAAAA... (407 characters)",
        ),
    ],
)
def test_a_shown_column_is_short(value: object, shown: str) -> None:
    assert shortened(value) == shown
