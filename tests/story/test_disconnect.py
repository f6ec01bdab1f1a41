"""How a connection ends, whole or one entity of it, at the fake Finch itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finch_middleware import (
    Connection,
    FinchRefused,
    FinchUnavailable,
    StorageUnavailable,
    UsageError,
)
from finch_middleware.records import ENDED, StoredConnection
from finch_middleware.storage.events import FinchEvent
from finch_middleware.testing import Behaviour, FakeFinch
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch.webhooks import new_event_id
from finch_middleware.testing.sample_records import sealed
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, Site
from tests.storages import every_storage

NOW = datetime.now(UTC)


def test_a_disconnected_connection_is_ended_at_finch_and_removed_here(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    first, second = (
        site.finch.connections.disconnect(connection_id, customer_id="acme") for _ in range(2)
    )

    assert (first, second) == ("ended", None)
    assert fake.ledger.calls("disconnect") == 1
    assert site.finch.connections.for_customer("acme") == []


@pytest.mark.parametrize(
    ("status", "name", "finch_code"),
    [
        (500, None, None),
        (401, "authentication_error", "reauthenticate_user"),
        (401, "invalid_token_error", "reauthenticate_user"),
        (401, "unauthorized_request_error", None),
        (403, "invalid_token_error", None),
    ],
)
def test_a_connection_stays_unless_finch_states_that_its_token_has_ended(
    fake: FakeFinch,
    site: Site,
    connection_id: str,
    status: int,
    name: str | None,
    finch_code: str | None,
) -> None:
    fake.script("disconnect", Behaviour.error(status, name=name, finch_code=finch_code))

    with pytest.raises((FinchUnavailable, FinchRefused)):
        site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert site.finch.connections.get(connection_id, customer_id="acme") is not None
    assert site.finch.connections.disconnect(connection_id, customer_id="acme") == "ended"


def test_a_connection_that_finch_ended_before_is_removed(
    fake: FakeFinch, site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **named: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(site.finch.storage, "delete", stop)
        with pytest.raises(KeyboardInterrupt):
            site.finch.connections.disconnect(connection_id, customer_id="acme")

    again = site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert again == "ended_before"
    assert site.finch.connections.for_customer("acme") == []
    assert fake.ledger.calls("disconnect") == 2


def test_a_connection_can_be_forgotten_without_a_call(
    fake: FakeFinch, site: Site, connection_id: str
) -> None:
    calls = len(fake.ledger.requests)

    others, first, second = (
        site.finch.connections.forget(connection_id, customer_id=customer)
        for customer in ("other", "acme", "acme")
    )

    assert (others, first, second) == (False, True, False)
    assert site.finch.connections.for_customer("acme") == []
    assert len(fake.ledger.requests) == calls


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"status": "reauth"}, "ended"),
        ({"sealed": sealed("under another key")}, "ended"),
        ({"attempt_id": "another", "sealed": sealed("renewed")}, "renewed"),
        ({"customer_id": "", "sealed": ENDED}, "ended"),
    ],
    ids=["refreshed", "rotated", "renewed", "ended"],
)
def test_t40_only_what_was_ended_at_finch_is_removed(
    fake: FakeFinch,
    site: Site,
    connection_id: str,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    result: str,
) -> None:
    storage = site.finch.storage
    row, swap = storage.get(connection_id), storage.swap
    assert row is not None
    changed = dataclasses.replace(row, **changes)

    def meets_another(old: StoredConnection, new: StoredConnection) -> bool:
        swap(row, changed)
        return swap(old, new)

    monkeypatch.setattr(storage, "swap", meets_another)

    ended = site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert ended == result
    assert storage.get(connection_id) == (changed if result == "renewed" else None)


def test_a_disconnect_that_never_gets_its_turn_is_an_error(
    site: Site, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.finch.storage, "delete", lambda row, at: False)

    with pytest.raises(StorageUnavailable) as raised:
        site.finch.connections.disconnect(connection_id, customer_id="acme")

    assert raised.value.reason == "busy"


@every_storage
def test_t40_a_token_in_the_spool_does_not_bring_a_disconnected_connection_back(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.exchange.SETTLE_PAUSES", (0.0,))
    finch, browser = faulty_site.finch, Browser(faulty_site)
    browser.get(fake.allow(browser.location("acme")))
    [connection] = finch.connections.for_customer("acme")
    faulty.down("settle", times=1)
    browser.get(fake.allow(browser.location("acme")))

    ended = finch.connections.disconnect(connection.connection_id, customer_id="acme")
    finch.recovery.sweep()

    assert ended == "ended"
    assert finch.connections.for_customer("acme") == []
    assert len(faulty_site.named("finch.spool.superseded")) == 1


class TestDisconnectEntities:
    @pytest.fixture
    def entity_ids(self, fake: FakeFinch, site: Site, browser: Browser) -> list[str]:
        browser.get(fake.allow(browser.location("acme"), entities=3))
        [connection] = site.finch.connections.for_customer("acme")
        site.finch.connections.refresh(connection.connection_id, customer_id="acme")
        return list(connection.entity_ids)

    def end(self, site: Site, ended: Any, *, customer_id: str = "acme") -> Connection | None:
        [connection] = site.finch.connections.for_customer("acme")
        return site.finch.connections.disconnect_entities(
            connection.connection_id, entity_ids=ended, customer_id=customer_id
        )

    def test_only_they_are_ended_and_the_token_stays(
        self, fake: FakeFinch, site: Site, entity_ids: list[str]
    ) -> None:
        [before] = site.finch.connections.for_customer("acme")

        first, second = (self.end(site, entity_ids[:2]) for _ in range(2))
        last = self.end(site, entity_ids[1:])

        assert first is not None
        assert last is not None
        assert first == second
        assert [e.status for e in first.entities] == ["disconnected", "disconnected", "connected"]
        assert (first.status, first.entity_ids) == ("connected", tuple(entity_ids[2:]))
        assert last.entity_ids == ()
        assert last.access_token.reveal() == before.access_token.reveal()
        bodies = [r.body for r in fake.ledger.requests if r.endpoint == "disconnect_entity"]
        assert [json.loads(each)["entity_ids"] for each in bodies] == [
            entity_ids[:2],
            entity_ids[2:],
        ]
        assert fake.ledger.calls("disconnect") == 0

    @pytest.mark.parametrize("wrong", [[], "", None, "first", ["first", "other"], [5]], ids=repr)
    def test_an_entity_of_another_connection_is_refused_before_finch_is_asked(
        self, fake: FakeFinch, site: Site, entity_ids: list[str], wrong: Any
    ) -> None:
        names = {"first": entity_ids[0]}
        given = names.get(wrong) if isinstance(wrong, str) else wrong
        given = [names.get(each, each) for each in given] if isinstance(given, list) else given

        with pytest.raises(UsageError, match="entity_ids"):
            self.end(site, given)

        assert self.end(site, entity_ids, customer_id="other") is None
        assert fake.ledger.calls("disconnect_entity") == 0

    @pytest.mark.parametrize("code", [500, 401])
    def test_they_stay_unless_finch_states_success(
        self, fake: FakeFinch, site: Site, entity_ids: list[str], code: int
    ) -> None:
        fake.script("disconnect_entity", Behaviour.error(code, name="some_error"))
        [before] = site.finch.connections.for_customer("acme")

        with pytest.raises((FinchUnavailable, FinchRefused)):
            self.end(site, entity_ids)

        assert site.finch.connections.for_customer("acme") == [before]

    @pytest.mark.parametrize(
        ("meanwhile", "left"),
        [
            (lambda row: dataclasses.replace(row, products=("payroll",)), 2),
            (lambda row: dataclasses.replace(row, attempt_id="another"), 3),
            (lambda row: row.tombstone(at=NOW), None),
            (lambda row: dataclasses.replace(row, customer_id="b", attempt_id="another"), None),
        ],
        ids=["refreshed", "renewed", "removed", "another customer's"],
    )
    def test_another_write_meanwhile_is_kept(
        self,
        site: Site,
        entity_ids: list[str],
        monkeypatch: pytest.MonkeyPatch,
        meanwhile: Callable[[StoredConnection], StoredConnection],
        left: int | None,
    ) -> None:
        swap, tries = site.finch.storage.swap, list[StoredConnection]()

        def meets_another(old: StoredConnection, new: StoredConnection) -> bool:
            if not tries:
                assert swap(old, meanwhile(old))
            tries.append(new)
            return swap(old, new)

        monkeypatch.setattr(site.finch.storage, "swap", meets_another)

        ended = self.end(site, entity_ids[:1])

        assert (len(ended.entity_ids) if ended else None) == left

    @pytest.mark.parametrize(("since", "status"), [(-1800, "disconnected"), (400, "connected")])
    def test_only_a_later_event_restores_one(
        self, site: Site, entity_ids: list[str], clock: Clock, since: int, status: str
    ) -> None:
        clock.move(timedelta(hours=1))
        at = clock() + timedelta(seconds=since)
        ended = self.end(site, entity_ids[:1])
        assert ended is not None
        event = FinchEvent(
            event_id=new_event_id(int(at.timestamp())),
            connection_id=ended.connection_id,
            entity_id=entity_ids[0],
            status="connected",
            received_at=at,
        )

        site.finch.storage.receive(event)

        [after] = site.finch.connections.for_customer("acme")
        assert after.entities[0].status == status

    def test_one_that_never_gets_its_turn_is_an_error(
        self, site: Site, entity_ids: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(site.finch.storage, "swap", lambda old, new: False)

        with pytest.raises(StorageUnavailable, match="busy"):
            self.end(site, entity_ids[:1])
