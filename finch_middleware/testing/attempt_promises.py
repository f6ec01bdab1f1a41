"""The parts of `StorageContract` about attempts: settled, released, listed and forgotten."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    an_attempt,
    key_of,
    sealed,
)

_THREADS = 16
_ROUNDS = 5
_LATER = NOON + timedelta(minutes=1)

_CLAIMED = AttemptState.CLAIMED
_STORED = AttemptState.STORED
_QUARANTINED = AttemptState.QUARANTINED
_FAILED = AttemptState.FAILED
_AMBIGUOUS = AttemptState.AMBIGUOUS


def _ended(state: AttemptState, code: str = "code", **changes: object) -> Attempt:
    return an_attempt(code).settled(state, at=_LATER, reason=state.value, **changes)


class SettlePromises:
    """The end of an attempt."""

    @pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "not claimed"])
    @pytest.mark.parametrize("state", [_STORED, _QUARANTINED, _FAILED, _AMBIGUOUS])
    def test_an_end_is_written_with_or_without_its_claim_and_settling_twice_is_settling_once(
        self, storage: Storage, state: AttemptState, claimed: bool
    ) -> None:
        if claimed:
            storage.claim(an_attempt())

        for _ in range(2):
            assert storage.settle(_ended(state)) is True
            assert storage.attempt(key_of("code")) == _ended(state)

    @pytest.mark.parametrize(
        ("before", "state"),
        [
            (before, state)
            for before in (_STORED, _QUARANTINED, _FAILED, _AMBIGUOUS)
            for state in (_STORED, _QUARANTINED)
            if (before, state) != (_STORED, _QUARANTINED)
        ],
    )
    def test_a_token_replaces_any_end(
        self, storage: Storage, before: AttemptState, state: AttemptState
    ) -> None:
        storage.settle(_ended(before))

        assert storage.settle(_ended(state, sealed=sealed("later"))) is True
        assert storage.attempt(key_of("code")) == _ended(state, sealed=sealed("later"))

    def test_a_quarantined_token_does_not_replace_a_stored_one(self, storage: Storage) -> None:
        storage.settle(_ended(_STORED), a_connection())

        assert storage.settle(_ended(_QUARANTINED, sealed=sealed("old"))) is False
        assert storage.attempt(key_of("code")) == _ended(_STORED)

    @pytest.mark.parametrize("before", [_STORED, _QUARANTINED, _FAILED])
    def test_an_end_without_a_token_changes_no_other_end(
        self, storage: Storage, before: AttemptState
    ) -> None:
        storage.settle(_ended(before))

        assert storage.settle(_ended(_AMBIGUOUS)) is False
        assert storage.attempt(key_of("code")) == _ended(before)

    def test_settling_again_keeps_later_changes_of_the_connection(self, storage: Storage) -> None:
        brought, since = a_connection(), a_connection(status="connected", sealed=sealed("rotated"))
        storage.settle(_ended(_STORED), brought)
        storage.swap(brought, since)

        storage.settle(_ended(_STORED), brought)

        assert storage.get("connection") == since

    def test_attempt_and_connection_are_written_together(self, storage: Storage) -> None:
        storage.claim(an_attempt())

        storage.settle(_ended(_STORED), a_connection())

        assert storage.attempt(key_of("code")) == _ended(_STORED)
        assert storage.get("connection") == a_connection()

    def test_another_attempt_on_the_code_is_not_overwritten(self, storage: Storage) -> None:
        existing = an_attempt(attempt_id="first")
        storage.claim(existing)

        assert storage.settle(_ended(_STORED), a_connection()) is False
        assert storage.attempt(key_of("code")) == existing
        assert storage.get("connection") == a_connection()

    def test_connection_is_written_even_if_the_attempt_had_ended(self, storage: Storage) -> None:
        storage.settle(_ended(_FAILED))

        assert storage.settle(_ended(_AMBIGUOUS), a_connection()) is False
        assert storage.get("connection") == a_connection()

    def test_flow_is_taken_when_the_attempt_settles(self, storage: Storage) -> None:
        storage.claim(an_attempt())
        done = _ended(_STORED, flow_hash=key_of("flow"))

        storage.settle(done)

        assert storage.claim(an_attempt("other", flow_hash=key_of("flow"))) == done

    def test_flow_of_the_claim_stays_with_its_end(self, storage: Storage) -> None:
        storage.claim(an_attempt(flow_hash=key_of("flow")))
        done = _ended(_STORED, flow_hash=key_of("flow"))

        assert storage.settle(done) is True
        assert storage.attempt(key_of("code")) == done

    def test_flow_that_the_end_does_not_name_is_free_again(self, storage: Storage) -> None:
        storage.claim(an_attempt(flow_hash=key_of("flow")))

        storage.settle(_ended(_FAILED))

        assert storage.claim(an_attempt("other", flow_hash=key_of("flow"))) is None

    @pytest.mark.parametrize("state", [_STORED, _FAILED])
    @pytest.mark.parametrize("own", [key_of("place"), None], ids=["place", "no place"])
    @pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "lost"])
    def test_an_end_keeps_its_place_if_another_attempt_has_the_flow(
        self, storage: Storage, claimed: bool, own: bytes | None, state: AttemptState
    ) -> None:
        holder = an_attempt("holder", flow_hash=key_of("flow"))
        storage.claim(holder)
        if claimed:
            storage.claim(an_attempt(flow_hash=own))

        ends = [storage.settle(_ended(state, flow_hash=key_of("flow"))) for _ in range(2)]

        assert ends == [True, True]
        assert storage.attempt(key_of("code")) == _ended(state, flow_hash=(claimed and own) or None)
        assert storage.attempt(holder.code_hash) == holder

    def test_of_many_ends_racing_for_a_flow_exactly_one_gets_it(self, storage: Storage) -> None:
        for turn in range(_ROUNDS):
            flow = key_of(f"flow {turn}")
            racing = [_ended(_STORED, f"{turn} {i}", flow_hash=flow) for i in range(_THREADS)]
            for each in racing:
                storage.claim(dataclasses.replace(each, state=_CLAIMED, flow_hash=None))

            results = all_at_once(storage.settle, racing)

            existing = [storage.attempt(each.code_hash) for each in racing]
            assert results == [True] * _THREADS
            assert [each.flow_hash for each in existing if each].count(flow) == 1
            assert {each.state for each in existing if each} == {_STORED}

    def test_a_token_racing_ambiguous_ends_is_kept(self, storage: Storage) -> None:
        for turn in range(_ROUNDS * 2):
            storage.claim(an_attempt(f"{turn}"))
            ends = [_ended(_STORED, f"{turn}"), *[_ended(_AMBIGUOUS, f"{turn}")] * 3]

            results = all_at_once(storage.settle, ends)

            assert results[0] is True
            assert storage.attempt(key_of(f"{turn}")) == ends[0]

    def test_notification_of_the_application_is_recorded(self, storage: Storage) -> None:
        storage.settle(_ended(_STORED, notified=False), a_connection())

        storage.settle(_ended(_STORED, notified=True))

        assert storage.attempt(key_of("code")) == _ended(_STORED, notified=True)
        assert storage.get("connection") == a_connection()

    def test_report_of_an_interruption_is_recorded_once(self, storage: Storage) -> None:
        storage.settle(_ended(_AMBIGUOUS, notified=False))

        noted = storage.settle(_ended(_AMBIGUOUS, notified=True))
        pending_again = storage.settle(_ended(_AMBIGUOUS, notified=False))

        assert (noted, pending_again) == (True, False)
        assert storage.attempt(key_of("code")) == _ended(_AMBIGUOUS, notified=True)

    # Which token is kept

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older first", "newer first"])
    def test_newest_token_is_kept_in_either_order(
        self, storage: Storage, order: tuple[int, int]
    ) -> None:
        versions = [
            a_connection(obtained_at=NOON + timedelta(microseconds=i), attempt_id=f"{i}")
            for i in range(2)
        ]

        for i in order:
            storage.settle(_ended(_STORED, f"{i}"), versions[i])

        assert storage.get("connection") == versions[1]

    def test_token_of_the_same_instant_by_another_attempt_replaces(self, storage: Storage) -> None:
        storage.settle(_ended(_STORED, "one"), a_connection(attempt_id="one"))
        second = a_connection(attempt_id="two", sealed=sealed("two"), status="reauth")

        storage.settle(_ended(_STORED, "two"), second)

        assert storage.get("connection") == second

    def test_newer_token_replaces_every_column(self, storage: Storage) -> None:
        storage.settle(_ended(_STORED, "one"), a_connection(status="connected"))
        newer = a_connection(
            customer_id="emca",
            client_id="other client",
            provider_id="adp",
            products=(),
            client_type="production",
            connection_type="finch",
            sealed=sealed("newer"),
            obtained_at=_LATER,
            attempt_id="newer",
        )

        storage.settle(_ended(_STORED, "two"), newer)

        assert storage.get("connection") == newer
        assert list(storage.for_customer("acme")) == []

    def test_of_many_racing_tokens_the_newest_is_kept(self, storage: Storage) -> None:
        for turn in range(_ROUNDS):
            versions = [
                a_connection(
                    f"connection {turn}",
                    obtained_at=NOON + timedelta(microseconds=i * 7 % _THREADS),
                    attempt_id=f"{turn} {i}",
                )
                for i in range(_THREADS)
            ]

            all_at_once(
                lambda stored: storage.settle(_ended(_STORED, stored.attempt_id), stored), versions
            )

            newest = max(versions, key=lambda stored: stored.obtained_at)
            assert storage.get(f"connection {turn}") == newest


class SweepPromises:
    """Attempts that are pending, and attempts that may be forgotten."""

    def test_release_makes_the_code_and_its_flow_free_again(self, storage: Storage) -> None:
        mine = an_attempt(flow_hash=key_of("flow"))
        storage.claim(mine)

        storage.release(mine)

        assert storage.attempt(mine.code_hash) is None
        assert storage.claim(an_attempt("other", flow_hash=key_of("flow"))) is None
        assert storage.claim(an_attempt(attempt_id="second")) is None

    def test_release_leaves_the_claim_of_another_attempt(self, storage: Storage) -> None:
        existing = an_attempt(attempt_id="first")
        storage.claim(existing)

        storage.release(an_attempt(attempt_id="mine"))

        assert storage.attempt(existing.code_hash) == existing

    @pytest.mark.parametrize("state", [_STORED, _QUARANTINED, _FAILED, _AMBIGUOUS])
    def test_release_leaves_a_settled_attempt(self, storage: Storage, state: AttemptState) -> None:
        storage.settle(_ended(state))

        storage.release(an_attempt())

        assert storage.attempt(key_of("code")) == _ended(state)

    def test_release_without_a_claim_is_no_error(self, storage: Storage) -> None:
        storage.release(an_attempt())

        assert storage.attempt(key_of("code")) is None

    @pytest.mark.parametrize(
        ("state", "notified", "pending"),
        [
            (_CLAIMED, True, True),
            (_CLAIMED, False, True),
            (_STORED, False, True),
            (_STORED, True, False),
            (_QUARANTINED, False, False),
            (_FAILED, True, False),
            (_AMBIGUOUS, True, False),
            (_AMBIGUOUS, False, True),
        ],
    )
    def test_unsettled_lists_pending_attempts(
        self, storage: Storage, state: AttemptState, notified: bool, pending: bool
    ) -> None:
        kept = an_attempt(state=state, notified=notified)
        storage.settle(kept)

        late = list(storage.unsettled(leased_before=kept.leased_until + timedelta(microseconds=1)))

        assert late == ([kept] if pending else [])
        assert list(storage.unsettled(leased_before=kept.leased_until)) == []

    def test_quarantined_are_listed_with_their_token(self, storage: Storage) -> None:
        held = _ended(_QUARANTINED, "held", sealed=sealed("held"))
        storage.settle(held)
        for state in (_STORED, _FAILED, _AMBIGUOUS):
            storage.settle(_ended(state, state.value))
        storage.claim(an_attempt())

        assert list(storage.quarantined()) == [held]

    @pytest.mark.parametrize(
        ("state", "notified", "removed"),
        [
            (_STORED, True, True),
            (_FAILED, True, True),
            (_AMBIGUOUS, True, True),
            (_STORED, False, False),
            (_AMBIGUOUS, False, False),
            (_QUARANTINED, True, False),
            (_CLAIMED, True, False),
        ],
    )
    def test_forget_removes_old_ends_and_no_pending_attempt(
        self, storage: Storage, state: AttemptState, notified: bool, removed: bool
    ) -> None:
        settled_at = None if state is _CLAIMED else _LATER
        kept = an_attempt(state=state, notified=notified, settled_at=settled_at)
        storage.settle(kept, a_connection())

        assert storage.forget(settled_before=_LATER) == 0
        assert storage.forget(settled_before=_LATER + timedelta(days=1)) == int(removed)
        assert storage.attempt(kept.code_hash) == (None if removed else kept)
        assert storage.get("connection") == a_connection()

    def test_forgotten_flow_is_free_again(self, storage: Storage) -> None:
        storage.settle(_ended(_STORED, flow_hash=key_of("flow")))

        storage.forget(settled_before=_LATER + timedelta(days=1))

        assert storage.claim(an_attempt("other", flow_hash=key_of("flow"))) is None
