"""The race for a claim: what is released, and what a process remembers of it."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from finch_middleware import Failed, duplicates
from finch_middleware.attempts import Attempt
from finch_middleware.duplicates import Duplicates
from finch_middleware.errors import StorageUnavailable
from finch_middleware.testing.sample_records import a_connection, keep, key_of
from tests.faulty_storage import FaultyStorage
from tests.test_duplicates import VISIT, Desk, desk

__all__ = ["desk"]


def released(race: Duplicates, attempt: Attempt) -> Failed | None:
    """The outcome that this process remembers of a claim that it released."""
    return race._given_up.get(attempt.attempt_id)


def test_the_outcome_is_remembered_before_the_claim_is_released(desk: Desk) -> None:
    failed = VISIT.failed("throttled", retry_after=4)
    seen: list[Failed | None] = []
    storage = FaultyStorage(desk.storage)
    race = replace(desk.duplicates, storage=storage)
    storage.before("release", lambda: seen.append(released(race, desk.claimed)))

    race.release(desk.claimed, failed)

    assert seen == [failed]
    assert released(race, desk.an_attempt(attempt_id="other")) is None
    assert desk.storage.attempt(desk.claimed.code_hash) is None
    assert desk.reported == []


def test_a_claim_that_cannot_be_released_is_reported_and_left_to_the_next_request(
    desk: Desk,
) -> None:
    storage = FaultyStorage(desk.storage)
    storage.down("release", times=1)
    race = replace(desk.duplicates, storage=storage)
    race.release(desk.claimed, VISIT.failed("throttled"))
    stranger, reload = (desk.an_attempt(attempt_id=each) for each in ("stranger", "reload"))

    lost, _ = race.claim(replace(stranger, bound_to=(key_of("other"),)))
    keep(desk.storage, a_connection())
    won, existing = race.claim(reload)

    assert existing == [a_connection()]
    assert [each[:2] for each in desk.reported] == [("finch.claim.not_released", logging.ERROR)]
    assert [lost.attempt_id, won.attempt_id] == [desk.claimed.attempt_id, "reload"]


@pytest.mark.parametrize("unread", [0, 1])
def test_a_claim_that_is_found_to_be_recorded_has_the_customers_connections(
    desk: Desk, unread: int
) -> None:
    storage = FaultyStorage(desk.storage)
    keep(storage, a_connection())
    race = replace(desk.duplicates, storage=storage)
    mine = desk.an_attempt(code="other")
    storage.cut("claim")
    storage.down("for_customer", times=unread)

    if unread:
        with pytest.raises(StorageUnavailable):
            race.claim(mine)
        # The claim that is recorded all the same does not bar the next request.
        mine = desk.an_attempt(code="other", attempt_id="reload")

    assert race.claim(mine) == (mine, [a_connection()])
    assert desk.storage.attempt(mine.code_hash) == mine


def test_a_claim_reads_in_the_same_step(desk: Desk) -> None:
    storage = FaultyStorage(desk.storage)
    storage.down("for_customer")
    race = replace(desk.duplicates, storage=storage)
    mine = desk.an_attempt(code="other")

    assert race.claim(mine) == (mine, [])


def test_a_claim_that_was_not_begun_is_neither_looked_for_nor_remembered(desk: Desk) -> None:
    storage, fault = FaultyStorage(desk.storage), StorageUnavailable("busy")
    fault.unwritten = True
    storage.raises("claim", fault)
    race = replace(desk.duplicates, storage=storage)
    mine = desk.an_attempt(code="other")

    with pytest.raises(StorageUnavailable):
        race.claim(mine)

    assert "attempt" not in storage.calls
    assert mine.attempt_id not in race._given_up


def test_a_bounded_number_of_released_claims_is_remembered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "REMEMBERED_LIMIT", 2)
    race = desk.duplicates
    attempts = [desk.an_attempt(attempt_id=f"attempt-{number}") for number in range(3)]

    found = []
    for each in attempts:
        race.release(each, VISIT.failed("unreachable"))
        found.append([released(race, attempt) is not None for attempt in attempts])

    assert found == [[True, False, False], [True, True, False], [False, False, True]]
