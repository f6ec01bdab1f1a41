"""Which of two records is kept, and which can be removed: the rules of every backend."""

from __future__ import annotations

from datetime import datetime

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.records import StoredConnection


def attempt_replaces(new: Attempt, *, current: Attempt) -> bool:
    """
    Whether *new* may be written over the *current* attempt of the same code.

    An attempt with a token is always written; an end without one only over a claim, so that a
    late "failed" never hides what another process already knows.
    """
    if new.attempt_id != current.attempt_id:
        return False
    if current.state is AttemptState.STORED and new.state is AttemptState.QUARANTINED:
        # An operator completed it; a copy that was read before must not undo that.
        return False
    if current.state is new.state and new.notified and not current.notified:
        return True
    return current.state is AttemptState.CLAIMED or new.state.holds_token


def connection_replaces(new: StoredConnection, *, current: StoredConnection) -> bool:
    """
    Whether *new* may be written over the *current* connection of the same id.

    The later token wins. A connection of the same attempt is already stored, and may have been
    re-sealed or updated since.
    """
    if new.obtained_at == current.obtained_at:
        return new.attempt_id != current.attempt_id
    return new.obtained_at > current.obtained_at


def is_pending(attempt: Attempt) -> bool:
    """Whether it has no end yet, or its end has not been reported."""
    if attempt.state is AttemptState.CLAIMED:
        return True
    return not attempt.notified and attempt.state is not AttemptState.QUARANTINED


def can_forget(attempt: Attempt, *, settled_before: datetime) -> bool:
    """Whether the attempt ended before that instant and nothing of it is pending."""
    if attempt.settled_at is None or not attempt.notified:
        return False
    if attempt.state in (AttemptState.CLAIMED, AttemptState.QUARANTINED):
        return False
    return attempt.settled_at < settled_before
