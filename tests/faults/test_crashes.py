"""Workers that are killed, and power that is lost: no token is lost without a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.crash_campaign import SCENARIOS, Campaign, at_every_call, at_random, running
from finch_middleware import FinchConnect
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faults.power import Disk, standing_still_at_each_sync
from tests.storages import SERVERS, ServerOf, StorageOn

pytestmark = pytest.mark.full


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_persist_killed_at_any_system_call_loses_nothing_unseen(scenario: str) -> None:
    figures = at_every_call(scenario, step=12)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


@pytest.mark.parametrize("scenario", ["stored", "swept"])
@pytest.mark.parametrize("kind", SERVERS)
def test_persist_killed_on_a_server_loses_nothing_unseen(
    server_of: ServerOf, storage_on: StorageOn, kind: str, scenario: str
) -> None:
    server = server_of(kind)
    storage_on(server)

    figures = at_every_call(scenario, step=30, url=server.url)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 2


def test_persist_killed_at_a_random_moment_loses_nothing_unseen() -> None:
    figures = at_random("stored", times=30, seed=1)

    assert not figures.faults, str(figures)
    assert figures.runs["killed"] > 5


def _power_losses(scenario: str, folder: Path) -> tuple[str, list[str]]:
    """The response of a worker, and the faults: what was sent out and is not on the disk."""
    faults: list[str] = []
    with running(scenario) as campaign:
        disk = Disk(campaign.folder / "finch.db", folder=folder / "disk")

        def lose_power() -> None:
            finch = campaign.reopened(disk.after_power_loss())
            claimed = finch.storage.attempt(campaign.code_hash()) is not None
            if campaign.fake.ledger.codes[-1].presented and not claimed:
                faults.append(f"sync {disk.syncs}: Finch has the code, and no claim is left")
            if "connected" in (campaign.folder / "answer").read_text():
                faults.extend(_lost(finch, campaign.fake))
            finch.storage.close()  # type: ignore[attr-defined]  # an SQLite has it

        answer = campaign.accompanied(
            lambda worker: standing_still_at_each_sync(
                worker, disk=disk, trace=folder / "trace", before=lose_power
            )
        )
        lose_power()
    return answer, faults


def _lost(finch: FinchConnect, fake: FakeFinch) -> list[str]:
    issued = fake.ledger.codes[-1]
    found = finch.connections.get(issued.connection_id, customer_id=issued.customer_id)
    kept = found is not None and found.access_token.reveal() in issued.minted
    return [] if kept else ["the person saw success, and the token is gone"]


def test_persist_power_lost_at_any_sync_loses_nothing_that_was_sent_out(tmp_path: Path) -> None:
    answer, faults = _power_losses("stored", tmp_path)

    assert "finch=connected" in answer
    assert faults == []


def test_persist_power_lost_is_noticed_where_nothing_is_synced(tmp_path: Path) -> None:
    answer, faults = _power_losses("unsynced", tmp_path)

    assert "finch=connected" in answer
    assert len(faults) == 2


def test_persist_power_lost_is_met_by_a_sync_of_every_commit(worker: Campaign) -> None:
    calls = [name for name, _ in worker.system_calls()]

    # Claim, end, and the note that on_connected ran; the log of the database may begin anew.
    assert calls.count("fdatasync") in (3, 4)
