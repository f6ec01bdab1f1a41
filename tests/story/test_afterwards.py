"""What the application does with a connection afterwards, at the fake Finch itself."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware import (
    FinchUnavailable,
    StorageUnavailable,
    UsageError,
    connections,
)
from finch_middleware.storage.shards import Shard
from finch_middleware.testing import Behaviour, FakeFinch, add_connection
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.sample_records import an_event
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, Site
from tests.storages import every_storage

NOW = datetime.now(UTC)


def test_a_refreshed_connection_has_finchs_current_status(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    fake.script("introspect", Behaviour.alter(connection_status={"status": "reauth"}))

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.status == "reauth"
    stored = site.finch.connections.get(connection_id, customer_id="acme")
    assert stored is not None
    assert stored.status == "reauth"
    assert stored.access_token.reveal() in fake.ledger.tokens


def test_a_refreshed_connection_has_its_entities_with_their_own_status(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    [before] = site.finch.connections.for_customer("acme")
    [entity_id] = before.entity_ids
    fake.set_status(connection_id, "connected", message="Working")
    fake.set_status(connection_id, "disconnected", entity=entity_id)

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert [(e.id, e.name, e.status) for e in before.entities] == [(entity_id, None, None)]
    assert [(e.id, e.name, e.status) for e in refreshed.entities] == [
        (entity_id, "Main", "disconnected")
    ]
    assert refreshed.entity_ids == ()
    assert refreshed.status_message == "Working"
    assert refreshed.checked_at == site.finch.connections.for_customer("acme")[0].checked_at
    with pytest.raises(TypeError, match="pass its connection_id"):
        pickle.dumps(refreshed)


def test_a_new_login_keeps_the_names_of_the_entities(
    fake: FakeFinch, site: Site, browser: Browser, connection_id: str
) -> None:
    site.finch.connections.refresh(connection_id, customer_id="acme")

    browser.get(fake.allow(browser.location("acme"), entities=2))

    [renewed] = site.finch.connections.for_customer("acme")
    assert [e.name for e in renewed.entities] == ["Main", None]
    # A newer token refutes only what would take the connection away.
    assert [e.status for e in renewed.entities] == ["connected", None]
    assert (renewed.status, renewed.checked_at) == ("connected", None)


def test_a_token_that_needs_a_new_login_is_a_status_and_no_error(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    refusal = Behaviour.error(401, name="authentication_error", finch_code="reauthenticate_user")
    fake.script("introspect", refusal)

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.status == "reauth"


class TestRefreshStale:
    @pytest.fixture(autouse=True)
    def pauses(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        slept: list[float] = []
        monkeypatch.setattr(connections, "time", SimpleNamespace(sleep=slept.append))
        return slept

    def test_only_what_was_not_asked_about_for_so_long_is_asked_at_the_given_rate(
        self, fake: FakeFinch, site: Site, connection_id: str, pauses: list[float]
    ) -> None:
        for customer in ("b", "c"):
            add_connection(site.finch, customer_id=customer)
        connections = site.finch.connections
        connections.refresh(connection_id, customer_id="acme")
        fake.script("introspect", Behaviour.error(500, name="server_error"), times=1)

        *_, last = connections.refresh_stale(older_than=timedelta(hours=1), per_second=2)
        again = list(connections.refresh_stale(older_than=timedelta(hours=1)))
        everything = list(connections.refresh_stale(older_than=timedelta(0)))

        # Finch does not know the tokens of the two others.
        assert last == {"finch_unavailable": 1, "finch_refused": 1}
        assert pauses.count(0.5) == 1
        assert len(again) == 2
        assert len(everything) == 3

    def test_what_an_event_left_undecided_is_asked_about_once(
        self, site: Site, connection_id: str, clock: Clock
    ) -> None:
        connections = site.finch.connections
        connections.refresh(connection_id, customer_id="acme")
        event = an_event(None, connection_id=connection_id, status="reauth", received_at=clock())
        assert site.finch.storage.receive(event).undecided

        asked = [len(list(connections.refresh_stale(older_than=timedelta(1)))) for _ in range(2)]

        assert asked == [1, 0]

    def test_t50_a_question_of_another_process_takes_one_of_its_turns(
        self, site: Site, connection_id: str, clock: Clock, pauses: list[float]
    ) -> None:
        clock.move(timedelta(seconds=1))
        site.finch.connections.refresh(connection_id, customer_id="acme")
        clock.move(timedelta(seconds=-1))

        asked = list(site.finch.connections.refresh_stale(older_than=timedelta(1), per_second=2))

        assert (asked, pauses.count(0.5)) == ([], 1)

    def test_shards_ask_about_each_connection_once(self, site: Site, fake: FakeFinch) -> None:
        for number in range(12):
            add_connection(site.finch, customer_id=f"customer {number}")
        shards = [Shard(number=i + 1, count=4) for i in range(4)]

        asked = [
            sum(
                1 for _ in site.finch.connections.refresh_stale(older_than=timedelta(0), shard=each)
            )
            for each in shards
        ]

        assert (sum(asked), fake.ledger.calls("introspect")) == (12, 12)
        assert max(asked) < 12

    def test_it_stops_where_finch_asks_to_wait(
        self, fake: FakeFinch, site: Site, connection_id: str
    ) -> None:
        fake.script("introspect", Behaviour.error(429), times=None)

        with pytest.raises(FinchUnavailable, match="throttled"):
            list(site.finch.connections.refresh_stale(older_than=timedelta(0)))

    @pytest.mark.parametrize(
        "given",
        [{"older_than": 5}, {"older_than": timedelta(-1)}]
        + [{"older_than": timedelta(1), "per_second": rate} for rate in (0, 3.1)],
    )
    def test_an_argument_out_of_bounds_is_refused_at_once(
        self, site: Site, given: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError):
            site.finch.connections.refresh_stale(**given)


@pytest.mark.parametrize("status", [None, "down", {"status": 3}, {"status": "<script>"}])
def test_a_malformed_status_changes_nothing(
    fake: FakeFinch, site: Site, connection_id: str, status: object
) -> None:
    fake.script("introspect", Behaviour.alter(connection_status=status))

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.status is None


def test_a_refresh_that_meets_another_write_tries_again_on_the_current_row(
    fake: FakeFinch, site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, swaps = site.finch.storage, []
    swap = storage.swap

    def meets_another(old: Any, new: Any) -> bool:
        if not swaps:
            assert swap(old, dataclasses.replace(old, products=("payroll",)))
        swaps.append(new)
        return swap(old, new)

    monkeypatch.setattr(storage, "swap", meets_another)

    refreshed = site.finch.connections.refresh(connection_id, customer_id="acme")

    assert refreshed is not None
    assert refreshed.products == ("payroll",)
    assert refreshed.status == "connected"


def test_a_refresh_that_never_gets_its_turn_is_an_error(
    site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.finch.storage, "swap", lambda old, new: False)

    with pytest.raises(StorageUnavailable):
        site.finch.connections.refresh(connection_id, customer_id="acme")


@every_storage
@pytest.mark.parametrize("given", [5, None, b"acme", "\ud800"])
def test_an_id_that_is_no_text_is_refused_before_the_storage_is_asked(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, given: Any
) -> None:
    connections = faulty_site.finch.connections
    asked: list[Callable[[], object]] = [
        partial(connections.for_customer, given),
        partial(faulty_site.finch.begin, customer_id=given, customer_name="Acme"),
        partial(faulty_site.finch.begin, customer_id="acme", connection_id=given or 5),
        *(
            partial(call, *ids, customer_id=customer)
            for call in (
                connections.get,
                connections.refresh,
                connections.disconnect,
                connections.forget,
                partial(connections.disconnect_entities, entity_ids=["e-1"]),
            )
            for ids, customer in [((given,), "acme"), (("c-1",), given)]
        ),
    ]

    for ask in asked:
        with pytest.raises(UsageError, match=r"pass str\(id\)|unpaired surrogate"):
            ask()

    assert faulty.calls == []
    assert not fake.ledger.requests


def test_another_customers_connection_is_neither_refreshed_nor_ended(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    refreshed = site.finch.connections.refresh(connection_id, customer_id="other")
    ended = site.finch.connections.disconnect(connection_id, customer_id="other")

    assert refreshed is None
    assert ended is None
    assert fake.ledger.calls("introspect") == 0
    assert fake.ledger.calls("disconnect") == 0
