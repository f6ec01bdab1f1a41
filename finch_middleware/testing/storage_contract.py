"""
The promises of `Storage` as tests, for every backend and for yours.

Inherit the class and define a fixture with the empty storage::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self) -> Storage:
            return MyStorage(...)

        @pytest.fixture
        def reopen(self, storage: Storage) -> Callable[[], Storage]:
            return functools.partial(MyStorage, ...)      # the same data, another process

A storage that exists in one process only sets ``in_process = True`` and needs no `reopen`. The
tests with several processes need a `reopen` that can be pickled. Two more fixtures are optional,
`unconfirmed` and `cut_connections` of `TroublePromises`: only a backend knows how to lose the
confirmation of a commit, or a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from finch_middleware.attempts import CODES_PER_FLOW, Attempt, AttemptState, places
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.attempt_promises import SettlePromises, SweepPromises
from finch_middleware.testing.connection_promises import ConnectionPromises
from finch_middleware.testing.event_promises import EventPromises
from finch_middleware.testing.sample_records import (
    NOON,
    a_connection,
    all_at_once,
    an_attempt,
    keep,
    key_of,
    sealed,
)
from finch_middleware.testing.token_promises import TokenPromises
from finch_middleware.testing.trouble_promises import TroublePromises

_THREADS = 32
_ROUNDS = 5
_LATER = NOON + timedelta(minutes=1)

_STORED = AttemptState.STORED
_QUARANTINED = AttemptState.QUARANTINED
_FAILED = AttemptState.FAILED

_TEXTS = {
    "plain": "acme",
    "emoji": "👩‍👩‍👧 Ünïcødé 株式会社",
    "quotes": """O'Brien "& Sons" `; DROP TABLE finch_attempts; --""",
    "escapes": "back\\slash %s :name {} \t\r\n \x01",
    "spaces": "  both ends  ",
    "empty": "",
    "long": "長" * 255,
}
_INSTANTS = {
    "microseconds": datetime(2026, 3, 4, 5, 6, 7, 999_999, tzinfo=UTC),
    "whole second": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    "east": datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=14))),
    "west": datetime(2025, 12, 31, 23, 30, tzinfo=timezone(-timedelta(hours=9, minutes=30))),
    "the hour that summer time skips": datetime(2026, 3, 29, 2, 30, tzinfo=UTC),
}
_NEIGHBOURS = {
    "case": (b"a" * 32, b"A" * 32),
    "trailing space": (b"a" * 31 + b" ", b"a" * 31 + b"\x00"),
    "last bit": (b"\xff" * 32, b"\xff" * 31 + b"\xfe"),
    "accents": ("é".encode() * 16, "è".encode() * 16),
    "quotes": (b"'" * 32, b'"' * 32),
    "nothing": (b"\x00" * 32, b"\x00" * 31 + b"\x01"),
}


def _table(rows: Mapping[str, object]) -> list[object]:
    return [pytest.param(value, id=name) for name, value in rows.items()]


class StorageContract(
    SettlePromises, SweepPromises, ConnectionPromises, TokenPromises, EventPromises, TroublePromises
):
    """The promises of every storage; see `finch_middleware.storage.protocol.Storage`."""

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage under test, empty."""
        pytest.fail("a class that inherits StorageContract must define the fixture `storage`")

    @pytest.fixture
    def reopen(self, storage: Storage) -> Callable[[], Storage]:
        """Opens a second, independent handle to the same data."""
        if storage.in_process:
            pytest.skip("this storage exists in one process only")
        pytest.fail("a storage that processes share must define the fixture `reopen`")

    # Claim

    def test_check_returns_and_writes_nothing(self, storage: Storage) -> None:
        storage.check()
        storage.check()

        assert list(storage.unsettled(leased_before=datetime.max.replace(tzinfo=UTC))) == []

    def test_first_claim_of_a_code_wins(self, storage: Storage) -> None:
        mine = an_attempt(flow_hash=key_of("flow"))

        assert storage.claim(mine) is None
        assert storage.attempt(mine.code_hash) == mine

    def test_unknown_code_has_no_attempt(self, storage: Storage) -> None:
        assert storage.attempt(key_of("never seen")) is None

    def test_second_claim_of_a_code_gets_the_first(self, storage: Storage) -> None:
        first = an_attempt()
        storage.claim(first)

        assert storage.claim(an_attempt(attempt_id="second", reference="REF-2")) == first
        assert storage.attempt(first.code_hash) == first

    def test_second_code_of_a_flow_gets_the_first(self, storage: Storage) -> None:
        first = an_attempt("one", flow_hash=key_of("flow"))
        second = an_attempt("two", flow_hash=key_of("flow"))
        storage.claim(first)

        assert storage.claim(second) == first
        assert storage.attempt(second.code_hash) is None

    def test_code_decides_before_the_flow(self, storage: Storage) -> None:
        of_code = an_attempt("code", flow_hash=key_of("its own flow"))
        of_flow = an_attempt("other", flow_hash=key_of("flow"))
        storage.claim(of_code)
        storage.claim(of_flow)

        assert storage.claim(an_attempt("code", flow_hash=key_of("flow"))) == of_code

    def test_claims_without_a_flow_do_not_conflict(self, storage: Storage) -> None:
        assert storage.claim(an_attempt("one")) is None
        assert storage.claim(an_attempt("two")) is None

    def test_settled_attempt_still_blocks_its_code(self, storage: Storage) -> None:
        done = an_attempt().settled(_STORED, at=_LATER)
        storage.claim(an_attempt())
        storage.settle(done)

        assert storage.claim(an_attempt(attempt_id="second")) == done

    def test_a_claim_reads_what_its_customers_had_before(self, storage: Storage) -> None:
        older = a_connection("older", obtained_at=NOON - timedelta(days=1))
        keep(storage, a_connection("newest"), older, a_connection("u", customer_id="umbrella"))
        keep(storage, a_connection("c", customer_id="cyberdyne"))
        mine = an_attempt(customer_ids=("umbrella", "acme", "unknown"))

        won, lost = (storage.claim_and_read(mine) for _ in range(2))

        assert (won[0], lost[0]) == (None, mine)
        assert storage.attempt(mine.code_hash) == mine
        for _, existing in (won, lost):
            assert [each.connection_id for each in existing] == ["u", "newest", "older"]
            assert list(existing) == list(storage.for_customers(mine.customer_ids))

    def test_of_many_racing_claims_exactly_one_wins(self, storage: Storage) -> None:
        self._race_for_one(storage, lambda turn, i: an_attempt(f"code {turn}", attempt_id=f"{i}"))

    def test_of_many_codes_racing_for_a_flow_exactly_one_wins(self, storage: Storage) -> None:
        self._race_for_one(
            storage, lambda turn, i: an_attempt(f"{turn} {i}", flow_hash=key_of(f"flow {turn}"))
        )

    def _race_for_one(self, storage: Storage, racer: Callable[[int, int], Attempt]) -> None:
        storage.check()  # no claim has to wait until another has prepared the storage
        for turn in range(_ROUNDS):
            racing = [racer(turn, i) for i in range(_THREADS)]

            results = all_at_once(storage.claim, racing)

            [winner] = [mine for mine, found in zip(racing, results, strict=True) if not found]
            assert [found for found in results if found] == [winner] * (_THREADS - 1)
            assert storage.attempt(winner.code_hash) == winner

    def test_of_many_codes_racing_for_the_places_of_a_flow_exactly_five_win(
        self, storage: Storage
    ) -> None:
        self._race_for_places([storage], codes=_THREADS)

    def test_of_many_handles_racing_for_the_places_of_a_flow_exactly_five_win(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        self._race_for_places([storage, reopen(), reopen(), reopen()], codes=16)

    def _race_for_places(self, handles: Sequence[Storage], *, codes: int) -> None:
        racing = [an_attempt(f"{i}", flow_hash=key_of("flow")) for i in range(codes)]
        for each in handles:
            each.check()

        won = all_at_once(
            lambda i: any(
                handles[i % len(handles)].claim(replace(racing[i], flow_hash=place)) is None
                for place in places(key_of("flow"))
            ),
            range(codes),
        )

        recorded = [handles[0].attempt(each.code_hash) is not None for each in racing]
        assert won == recorded
        assert won.count(True) == CODES_PER_FLOW

    def test_claim_of_one_handle_counts_for_another(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        mine = an_attempt()
        storage.claim(mine)

        assert reopen().claim(an_attempt(attempt_id="second")) == mine

    def test_of_many_handles_racing_exactly_one_wins(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        handles = [storage, reopen(), reopen(), reopen()]
        racing = [(handles[i % 4], an_attempt(attempt_id=f"{i}")) for i in range(16)]
        for each in handles:
            each.check()

        results = all_at_once(lambda pair: pair[0].claim(pair[1]), racing)

        assert results.count(None) == 1

    # What was written is read back

    @pytest.mark.parametrize("keys", _table(_NEIGHBOURS))
    def test_keys_are_compared_byte_by_byte(
        self, storage: Storage, keys: tuple[bytes, bytes]
    ) -> None:
        one, two = (an_attempt(f"{i}", code_hash=key, flow_hash=key) for i, key in enumerate(keys))

        assert storage.claim(one) is None
        assert storage.claim(two) is None
        assert [storage.attempt(key) for key in keys] == [one, two]

    @pytest.mark.parametrize("text", _table(_TEXTS))
    def test_texts_come_back_as_they_were(self, storage: Storage, text: str) -> None:
        names = {"customer_id": text, "connection_id": text}
        kept = an_attempt(customer_ids=(text, "acme", text), reference=text, return_to=text)
        stored = a_connection(**names, products=(text,), provider_id=text, status=text)

        kept = kept.settled(_STORED, at=_LATER, reason=text, request_id=text, **names)
        storage.settle(kept, stored)

        assert storage.attempt(kept.code_hash) == kept
        assert storage.get(text) == stored
        assert list(storage.for_customer(text)) == [stored]

    @pytest.mark.parametrize("instant", _table(_INSTANTS))
    def test_instants_come_back_equal_and_aware(self, storage: Storage, instant: datetime) -> None:
        kept = an_attempt(claimed_at=instant, leased_until=instant).settled(_FAILED, at=instant)
        storage.settle(kept, a_connection(obtained_at=instant))

        back, connection = storage.attempt(kept.code_hash), storage.get("connection")

        assert back is not None
        assert connection is not None
        for each in (back.claimed_at, back.leased_until, back.settled_at, connection.obtained_at):
            assert each == instant
            assert each is not None
            assert each.tzinfo is not None

    @pytest.mark.parametrize("state", list(AttemptState))
    def test_every_state_comes_back(self, storage: Storage, state: AttemptState) -> None:
        kept = an_attempt(state=state, notified=False)
        storage.settle(kept)

        assert storage.attempt(kept.code_hash) == kept

    def test_large_sealed_tokens_come_back_whole(self, storage: Storage) -> None:
        large = sealed("A" * 65_536)
        kept = an_attempt().settled(_QUARANTINED, at=_LATER, sealed=large)
        storage.settle(kept, a_connection(sealed=large))

        assert storage.attempt(kept.code_hash) == kept
        assert storage.get("connection") == a_connection(sealed=large)

    @pytest.mark.parametrize(("tickets", "customers"), [(5, 500), (0, 0)])
    def test_bindings_and_customers_come_back_in_order(
        self, storage: Storage, tickets: int, customers: int
    ) -> None:
        kept = an_attempt(
            bound_to=tuple(key_of(f"ticket {i}") for i in range(tickets)),
            customer_ids=tuple(f"customer {i} " + "é" * 200 for i in range(customers)),
        )
        storage.claim(kept)

        assert storage.attempt(kept.code_hash) == kept

    def test_connection_of_one_handle_is_seen_by_another(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        storage.settle(an_attempt(), a_connection())

        assert reopen().get("connection") == a_connection()
