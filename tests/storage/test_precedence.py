"""Which of two records stands, over all pairs of states and what they owe."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.storage.precedence import gives_way, replaces
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt

STATES = list(product(AttemptState, [True, False]))
REPLACED = {
    # A claim gives way to every end of its own, and a token in hand is always written.
    *(("claimed", to) for to in AttemptState),
    *((standing, "stored") for standing in AttemptState),
    *((standing, "quarantined") for standing in AttemptState if standing != "stored"),
}


@pytest.mark.parametrize(("standing", "owed"), STATES)
@pytest.mark.parametrize(("to", "done"), STATES)
def test_an_end_gives_way_to_a_token_and_to_its_own_notice_alone(
    standing: AttemptState, owed: bool, to: AttemptState, done: bool
) -> None:
    before = an_attempt().settled(standing, at=NOON, notified=owed)
    after = an_attempt().settled(to, at=NOON, notified=done)
    its_notice = standing is to and done and not owed

    assert gives_way(before, to=after) is ((standing, to) in REPLACED or its_notice)


@pytest.mark.parametrize("state", AttemptState)
def test_an_attempt_never_gives_way_to_another(state: AttemptState) -> None:
    other = an_attempt(attempt_id="other").settled(state, at=NOON)

    assert gives_way(an_attempt(), to=other) is False


@pytest.mark.parametrize(
    ("later", "attempt_id", "stands"),
    [
        (timedelta(microseconds=1), "other", True),
        (timedelta(microseconds=1), "attempt-connection", True),
        (timedelta(0), "other", True),
        (timedelta(0), "attempt-connection", False),
        (-timedelta(microseconds=1), "other", False),
    ],
)
def test_the_later_token_stands(later: timedelta, attempt_id: str, stands: bool) -> None:
    new = a_connection(obtained_at=NOON + later, attempt_id=attempt_id)

    assert replaces(new, old=a_connection(obtained_at=NOON)) is stands
