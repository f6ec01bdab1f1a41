"""Which of two records is kept, over all pairs of states and of pending work."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.storage.history import join
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt

STATES = list(product(AttemptState, [True, False]))
REPLACED = {
    # Every end replaces its own claim, and a token is always written.
    *(("claimed", to) for to in AttemptState),
    *((current, "stored") for current in AttemptState),
    *((current, "quarantined") for current in AttemptState if current != "stored"),
}


@pytest.mark.parametrize(("current", "pending"), STATES)
@pytest.mark.parametrize(("to", "done"), STATES)
def test_an_end_is_replaced_by_a_token_and_by_its_own_notice_alone(
    current: AttemptState, pending: bool, to: AttemptState, done: bool
) -> None:
    before = an_attempt().settled(current, at=NOON, notified=pending)
    after = an_attempt().settled(to, at=NOON, notified=done)
    its_notice = current is to and done and not pending

    assert after.replaces(before) is ((current, to) in REPLACED or its_notice)


@pytest.mark.parametrize("state", AttemptState)
def test_an_attempt_never_replaces_another(state: AttemptState) -> None:
    other = an_attempt(attempt_id="other").settled(state, at=NOON)

    assert other.replaces(an_attempt()) is False


@pytest.mark.parametrize(
    ("later", "attempt_id", "kept"),
    [
        (timedelta(microseconds=1), "other", True),
        (timedelta(microseconds=1), "attempt-connection", True),
        (timedelta(0), "other", True),
        (timedelta(0), "attempt-connection", False),
        (-timedelta(microseconds=1), "other", False),
    ],
)
def test_the_later_token_is_kept(later: timedelta, attempt_id: str, kept: bool) -> None:
    new = a_connection(obtained_at=NOON + later, attempt_id=attempt_id)

    assert (join(new, a_connection(obtained_at=NOON)) is not None) is kept
