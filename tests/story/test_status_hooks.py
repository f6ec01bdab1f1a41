"""on_status, on_disconnected and the history: what happened, and which hooks ran."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware import Connection, EndedConnection, HistoryEntry, StatusChange, UsageError
from finch_middleware.testing import FakeFinch
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.sample_records import NOON
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, MakeSite, Site
from tests.storages import every_storage

DAY = timedelta(days=1)


class Recorder:
    """Both hooks; each raises *raised* at its first *failures* calls."""

    def __init__(self, *, failures: int = 0, raised: type[BaseException] = RuntimeError) -> None:
        self.failures = failures
        self.raised = raised
        self.changes: list[StatusChange] = []
        self.ended: list[EndedConnection] = []

    def options(self) -> dict[str, Any]:
        return {
            "on_status": lambda change: self._note(self.changes, change),
            "on_disconnected": lambda ended: self._note(self.ended, ended),
        }

    def words(self) -> list[tuple[str | None, str | None, str, str]]:
        return [(each.entity_id, each.before, each.after, each.source) for each in self.changes]

    def _note(self, calls: list[Any], call: Any) -> None:
        calls.append(call)
        if self.failures:
            self.failures -= 1
            raise self.raised("the queue is unavailable")


def connected(fake: FakeFinch, site: Site, **changes: Any) -> Connection:
    browser = Browser(site)
    browser.get(fake.allow(browser.location("acme"), **changes))
    return site.finch.connections.for_customer("acme")[0]


def refresh(fake: FakeFinch, site: Site, connection: Connection, status: str) -> None:
    fake.set_status(connection.connection_id, status, message=f"is {status}")
    site.finch.connections.refresh(connection.connection_id, customer_id="acme")


def data_call(fake: FakeFinch, site: Site, connection: Connection, status: str) -> None:
    fake.set_status(connection.connection_id, status)
    with site.finch.connections.client(connection) as client, pytest.raises(Exception, match="401"):
        client.hris.company.retrieve()


def history(site: Site, connection: Connection) -> list[HistoryEntry]:
    return site.finch.connections.history(connection.connection_id, customer_id="acme")


@pytest.mark.parametrize("learn", [refresh, data_call])
def test_a_change_of_the_status_is_reported_once_and_kept(
    fake: FakeFinch, make_site: MakeSite, clock: Clock, learn: Callable[..., None]
) -> None:
    recorder = Recorder()
    site = make_site(**recorder.options())
    connection = connected(fake, site)

    learn(fake, site, connection, "reauth")
    again = site.finch.connections.get(connection.connection_id, customer_id="acme")
    learn(fake, site, again, "reauth")

    [change] = recorder.changes
    source = learn.__name__
    assert (change.before, change.after, change.source) == (None, "reauth", source)
    assert (change.connection_id, change.customer_id) == (connection.connection_id, "acme")
    assert change.at == clock()
    assert change.message == ("is reauth" if learn is refresh else None)
    first, last = history(site, connection)
    assert (first.event, first.customer_id, first.attempt_id) == (
        "connected", "acme", connection.attempt_id
    )  # fmt: skip
    assert (first.key_id, first.products) == ("k1", connection.products)
    assert (first.entity_ids, first.at) == (connection.entity_ids, connection.connected_at)
    assert (last.event, last.after, last.source) == ("status", "reauth", source)
    assert site.named("finch.connection.ended") == []
    [event] = site.named("finch.connection.status")
    assert (event.reason, event.connection_id) == ("reauth", connection.connection_id)


def test_an_entity_is_reported_where_its_status_is_not_that_of_the_connection(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    recorder = Recorder()
    site = make_site(**recorder.options())
    connection = connected(fake, site, entities=3)
    _, two, three = connection.entity_ids
    fake.set_status(connection.connection_id, "reauth", entity=two)
    refresh_it = site.finch.connections.refresh

    refresh_it(connection.connection_id, customer_id="acme")
    site.finch.connections.disconnect_entities(
        connection.connection_id, entity_ids=[three], customer_id="acme"
    )

    assert recorder.words() == [
        (None, None, "connected", "refresh"),
        (two, None, "reauth", "refresh"),
        (three, "connected", "disconnected", "disconnect"),
    ]
    assert recorder.ended == []


@every_storage
@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt], ids=["raises", "killed"])
def test_a_change_is_stored_and_reported_until_the_hook_returns(
    fake: FakeFinch, make_site: MakeSite, raised: type[BaseException]
) -> None:
    recorder = Recorder(failures=2, raised=raised)
    site = make_site(**recorder.options())
    connection = connected(fake, site)

    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            refresh(fake, site, connection, "reauth")
    calls = [len(recorder.changes)]
    for _ in range(2):
        list(make_site(**recorder.options()).finch.connections.refresh_stale(older_than=DAY))
        calls.append(len(recorder.changes))

    # The second refresh finds no change, and calls nothing that waits.
    assert calls == [2, 3, 3]
    assert len({(each.before, each.after) for each in recorder.changes}) == 1
    [stored] = site.finch.connections.for_customer("acme")
    assert stored.status == "reauth"
    assert len(history(site, connection)) == 2
    failures = [event.reason for event in site.named("finch.hook.failed")]
    assert failures == (["on_status"] * 2 if raised is RuntimeError else [])


def test_finchs_own_word_ends_a_connection_too(fake: FakeFinch, make_site: MakeSite) -> None:
    recorder = Recorder()
    site = make_site(**recorder.options())
    connection = connected(fake, site)

    refresh(fake, site, connection, "disconnected")

    assert recorder.words() == [(None, None, "disconnected", "refresh")]
    [ended] = recorder.ended
    assert (ended.source, ended.provider_id) == ("refresh", connection.provider_id)
    assert (ended.connection_id, ended.customer_id) == (connection.connection_id, "acme")


@every_storage
def test_the_history_of_an_ended_connection_is_its_customers(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
) -> None:
    recorder = Recorder()
    site = make_site(**recorder.options())
    connection = connected(fake, site)
    connections, connection_id = site.finch.connections, connection.connection_id
    refresh(fake, site, connection, "connected")

    connections.disconnect(connection_id, customer_id="acme")

    [ended] = recorder.ended
    assert (ended.customer_id, ended.source, ended.at) == ("acme", "disconnect", clock())
    events = [each.event for each in history(site, connection)]
    assert events == ["connected", "status", "disconnected"]
    assert history(site, connection)[-1].source == "disconnect"
    [event] = site.named("finch.connection.ended")
    assert (event.reason, event.level, event.customer_ids) == (
        "disconnect",
        logging.INFO,
        ("acme",),
    )
    assert connections.history(connection_id) == history(site, connection)
    assert connections.history(connection_id, customer_id="other") == []
    assert connections.history("unknown") == []
    clock.move(731 * DAY)
    assert history(site, connection) == []
    with pytest.raises(UsageError):
        connections.history(connection_id, customer_id=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("finish", ["disconnect", "refresh_stale"])
def test_a_row_stays_until_on_disconnected_returns(
    fake: FakeFinch, make_site: MakeSite, finish: str
) -> None:
    recorder = Recorder(failures=2)
    site = make_site(**recorder.options())
    connections = site.finch.connections
    connection = connected(fake, site)
    ids = {"connection_id": connection.connection_id, "customer_id": "acme"}
    ends = {
        "disconnect": lambda: connections.disconnect(**ids),
        "refresh_stale": lambda: list(connections.refresh_stale(older_than=timedelta(0))),
    }

    first = connections.disconnect(**ids)
    listed = [connections.for_customer("acme")]
    for _ in range(2):
        ends[finish]()
        listed.append(connections.for_customer("acme"))

    assert first == "ended"
    assert [[each.status for each in found] for found in listed] == [["disconnected"]] * 2 + [[]]
    assert len(recorder.ended) == 3
    assert len(set(recorder.ended)) == 1
    failures = site.named("finch.hook.failed")
    assert [(e.reason, e.level) for e in failures] == [("on_disconnected", logging.ERROR)] * 2
    assert [each.event for each in history(site, connection)] == ["connected", "disconnected"]
    assert fake.ledger.calls("introspect") == 0


@every_storage
def test_a_new_login_keeps_the_history_and_the_first_instant(
    fake: FakeFinch, site: Site, clock: Clock
) -> None:
    before = connected(fake, site)
    refresh(fake, site, before, "reauth")
    clock.move(DAY)

    after = connected(fake, site, entities=2)

    assert (after.connected_at, after.obtained_at) == (before.connected_at, clock())
    first, status, renewed = history(site, after)
    assert (first.event, status.event) == ("connected", "status")
    assert (renewed.event, renewed.attempt_id) == ("reauthenticated", after.attempt_id)
    assert len(renewed.entity_ids) == 2
    clock.move(730 * DAY)
    assert [each.event for each in history(site, after)] == ["connected", "reauthenticated"]


@pytest.mark.parametrize("fault", ["unavailable", "another writer"])
def test_a_call_that_cannot_be_noted_is_repeated(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, fault: str
) -> None:
    changes: list[StatusChange] = []

    def on_status(change: StatusChange) -> None:
        changes.append(change)
        row = faulty.real.get(change.connection_id)
        if len(changes) > 1 or row is None:
            return
        if fault == "unavailable":
            faulty.down("swap", times=1)
        else:
            faulty.real.swap(row, dataclasses.replace(row, synced_at=NOON))

    site = make_site(storage=faulty, on_status=on_status)
    connection = connected(fake, site)

    refresh(fake, site, connection, "reauth")
    for _ in range(2):
        list(site.finch.connections.refresh_stale(older_than=DAY))

    assert len(changes) == 2
    events = site.named("finch.storage.unavailable")
    assert [each.connection_id for each in events] == (
        [connection.connection_id] if fault == "unavailable" else []
    )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "finch_middleware.connections.time", SimpleNamespace(sleep=lambda seconds: None)
    )
