"""Which of two records stands, and which is done with: the rules of every backend."""

from __future__ import annotations

from datetime import datetime

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.records import StoredConnection


def gives_way(standing: Attempt, *, to: Attempt) -> bool:
    """
    Whether *to* may be written over the *standing* attempt of the same code.

    A token in hand is always written; an end without one only over a claim, so that a
    late "failed" never hides what another already knows.
    """
    if standing.attempt_id != to.attempt_id:
        return False
    if standing.state is AttemptState.STORED and to.state is AttemptState.QUARANTINED:
        # An operator completed it; a copy that was read before must not take that back.
        return False
    if standing.state is to.state and to.notified and not standing.notified:
        # What it owed is done.
        return True
    return standing.state is AttemptState.CLAIMED or to.state.holds_token


def replaces(new: StoredConnection, *, old: StoredConnection) -> bool:
    """
    Whether *new* may be written over the stored connection *old* of the same id.

    The later token wins. What the same attempt brought is there already, and may have been
    rotated or updated since.
    """
    if new.obtained_at == old.obtained_at:
        return new.attempt_id != old.attempt_id
    return new.obtained_at > old.obtained_at


def owes(attempt: Attempt) -> bool:
    """Whether somebody still has to act: an end is missing, or a notice or report of it."""
    if attempt.state is AttemptState.CLAIMED:
        return True
    return not attempt.notified and attempt.state is not AttemptState.QUARANTINED


def forgettable(attempt: Attempt, *, settled_before: datetime) -> bool:
    """Whether the attempt ended before that instant and nobody will ask for it again."""
    if attempt.settled_at is None or not attempt.notified:
        return False
    if attempt.state in (AttemptState.CLAIMED, AttemptState.QUARANTINED):
        return False
    return attempt.settled_at < settled_before
