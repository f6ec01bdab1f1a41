"""Finch's events over HTTP: from a signed delivery to a status and the application's hook."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import Connection, StatusChange, WebhookEvent
from finch_middleware.operations import asking
from finch_middleware.testing import Behaviour
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.fake_finch.webhooks import (
    Delivery,
    WebhookSender,
    account_updated,
    event,
    new_event_id,
)
from tests.faulty_storage import FaultyStorage
from tests.site import Answer, Browser, MakeSite, Site
from tests.storages import every_storage
from tests.story.ways import wait_for_event
from tests.waiting import wait_for_questions

PATH = "/finch/webhook"
OLD, NEW = (base64.b64encode(bytes([byte]) * 24).decode() for byte in b"on")
MINUTES = timedelta(minutes=10)


class Hook(list[WebhookEvent]):
    """An `on_webhook` that raises at its first *failures* calls."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures

    def __call__(self, event: WebhookEvent) -> None:
        self.append(event)
        if len(self) <= self.failures:
            raise RuntimeError(f"broken with {event.body}")


class Finch:
    """Delivers events to one site, and knows what Finch responds to a question."""

    def __init__(self, fake: FakeFinch, site: Site, clock: Clock) -> None:
        self.fake, self.site, self.clock = fake, site, clock
        self.sender = WebhookSender(clock=clock, record=lambda sent: None)
        self.sender.deliver_to(site.origin + PATH, secrets=[OLD, NEW])
        self.event_id = ""
        site.secrets.update((OLD, NEW))

    def updates(
        self, connection_id: str, status: str, *, entity: str | None = None, **how: Any
    ) -> Delivery:
        account = self.fake.account(connection_id)
        return self.sender.send(account_updated(account, status, entity_id=entity), **how)

    def reports(self, connection_id: str, event_type: str, **data: Any) -> Delivery:
        account = self.fake.account(connection_id)
        return self.sender.send(event(account, event_type, entity_id=None, data=data))

    def posts(
        self, body: bytes = b"{}", *, signed_as: bytes | None = None, **changed: Any
    ) -> Answer:
        """The answer to a delivery with some headers changed; None leaves one out."""
        seconds = int(self.clock().timestamp())
        event_id = self.event_id or new_event_id(seconds)
        headers: dict[str, Any] = self.sender.signed(event_id, seconds, signed_as or body)
        headers |= {f"Finch-{name}": value for name, value in changed.items()}
        given = {name: value for name, value in headers.items() if value is not None}
        return Browser(self.site).request("POST", PATH, headers=given, body=body)


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def site(make_site: MakeSite, faulty: FaultyStorage, hook: Hook) -> Site:
    return make_site(
        storage=faulty,
        spool=None,
        webhook_path=PATH,
        webhook_secrets=[NEW, OLD],
        on_webhook=hook,
    )


@pytest.fixture
def finch(fake: FakeFinch, site: Site, clock: Clock) -> Finch:
    return Finch(fake, site, clock)


def connected(fake: FakeFinch, site: Site, *, entities: int = 1) -> Connection:
    browser = Browser(site)
    browser.get(fake.allow(browser.location(), entities=entities))
    return stored(site)


@pytest.fixture
def connection(fake: FakeFinch, site: Site, clock: Clock) -> Connection:
    """Connected ten minutes ago."""
    connected_then = connected(fake, site, entities=2)
    clock.move(MINUTES)
    return connected_then


def stored(site: Site) -> Connection:
    [connection] = site.finch.connections.for_customer("acme")
    return connection


def test_a_signed_event_becomes_the_status_and_reaches_the_hook_once(
    finch: Finch, site: Site, hook: Hook, connection: Connection, clock: Clock
) -> None:
    delivery = finch.updates(connection.connection_id, "reauth", repeat=3)

    assert delivery.statuses == (200, 200, 200)
    assert stored(site).status == "reauth"
    [event] = hook
    assert (event.event_id, event.event_type) == (delivery.event_id, "account.updated")
    assert (event.connection_id, event.entity_id) == (connection.connection_id, None)
    assert (event.status, event.occurred_at) == ("reauth", clock())
    assert event.company_id == finch.fake.account(connection.connection_id).company_id
    assert event.data["authentication_method"] == "credential"
    assert [each.reason for each in site.named("finch.webhook.received")] == ["account.updated"] * 3
    assert finch.fake.ledger.calls("introspect") == 0


def test_a_hook_that_raises_is_called_again_and_costs_no_status(
    finch: Finch, site: Site, hook: Hook, connection: Connection
) -> None:
    hook.failures = 1

    delivery = finch.updates(connection.connection_id, "reauth", repeat=3)

    assert delivery.statuses == (500, 200, 200)
    assert len(hook) == 2
    assert stored(site).status == "reauth"
    assert [each.reason for each in site.named("finch.hook.failed")] == ["on_webhook"]


def test_on_status_is_called_for_an_event_until_it_returns(
    fake: FakeFinch, make_site: MakeSite, faulty: FaultyStorage, clock: Clock
) -> None:
    changes: list[StatusChange] = []

    def on_status(change: StatusChange) -> None:
        changes.append(change)
        if len(changes) == 1:
            raise RuntimeError("the queue is unavailable")

    options = {"webhook_path": PATH, "webhook_secrets": [NEW, OLD], "on_status": on_status}
    site = make_site(storage=faulty, spool=None, **options)
    connection = connected(fake, site)
    clock.move(MINUTES)
    # The status is stored, and the process ends before it responds.
    faulty.down("record", times=1)

    delivery = Finch(fake, site, clock).updates(connection.connection_id, "reauth", repeat=4)

    assert delivery.statuses == (503, 200, 200, 200)
    assert [(each.after, each.source) for each in changes] == [("reauth", "webhook")] * 2
    entries = site.finch.connections.history(connection.connection_id, customer_id="acme")
    assert [each.event for each in entries] == ["connected", "status"]


@pytest.mark.parametrize("method", ["record", "event"])
def test_without_the_storage_finch_is_asked_to_come_again(
    finch: Finch, site: Site, hook: Hook, connection: Connection, faulty: FaultyStorage, method: str
) -> None:
    faulty.down(method, times=1)

    delivery = finch.updates(connection.connection_id, "reauth", repeat=2)

    assert delivery.statuses == (503, 200)
    assert (stored(site).status, len(hook)) == ("reauth", 1)
    assert [each.reason for each in site.named("finch.storage.unavailable")] == ["unavailable"]


def test_an_event_that_the_hook_has_is_not_asked_for_again(
    finch: Finch, site: Site, hook: Hook, connection: Connection, faulty: FaultyStorage
) -> None:
    faulty.down("mark_delivered", times=1)

    delivery = finch.updates(connection.connection_id, "reauth")

    assert (delivery.statuses, len(hook)) == ((200,), 1)
    assert site.named("finch.storage.unavailable")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Signature": "v1,bm8="}, 401, "signature"),
        ({"signed_as": b"other"}, 401, "signature"),
        ({"Signature": None}, 401, "headers"),
        ({"Timestamp": "1"}, 401, "timestamp"),
        ({"body": b"x" * (1024 * 1024 + 1)}, 413, "too_large"),
    ],
)
def test_an_unsigned_delivery_leaves_nothing(
    finch: Finch,
    site: Site,
    hook: Hook,
    faulty: FaultyStorage,
    changes: dict[str, Any],
    status: int,
    reason: str,
) -> None:
    answer = finch.posts(**changes)

    assert (answer.status, answer.body) == (status, b"")
    assert [each.reason for each in site.named("finch.webhook.rejected")] == [reason]
    assert (faulty.calls, hook) == ([], [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_only_a_post_delivers(site: Site, method: str) -> None:
    answer: Answer = Browser(site).request(method, PATH)

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_a_whole_mebibyte_is_read(finch: Finch, hook: Hook) -> None:
    body = b'{"event_type": "test", "data": {"text": "%s"}}'
    body = body.replace(b"%s", b"x" * (1024 * 1024 - len(body) + 2))

    assert finch.posts(body).status == 200
    assert len(hook[0].body) == 1024 * 1024


@pytest.mark.parametrize("body", [b"[]", b"null", b"\xff", b"{", b""])
def test_a_signed_body_that_is_no_object_is_reported(
    finch: Finch, site: Site, hook: Hook, faulty: FaultyStorage, body: bytes
) -> None:
    assert finch.posts(body).status == 400
    assert [each.name for each in site.events] == ["finch.webhook.malformed"]
    assert (faulty.calls, hook) == ([], [])


@pytest.mark.parametrize("event_type", ["test", "payment.created", "company.updated", "Größe"])
def test_any_other_event_is_handed_over_and_changes_nothing(
    finch: Finch, site: Site, hook: Hook, connection: Connection, event_type: str
) -> None:
    delivery = finch.reports(connection.connection_id, event_type, status="disconnected", pay="x")

    assert delivery.statuses == (200,)
    assert [(each.event_type, each.status, each.data["pay"]) for each in hook] == [
        (event_type, None, "x")
    ]
    assert stored(site) == connection


def test_an_event_about_one_entity_changes_that_entity_alone(
    finch: Finch, site: Site, connection: Connection
) -> None:
    first, second = connection.entity_ids

    finch.updates(connection.connection_id, "disconnected", entity=second)

    now = stored(site)
    assert (now.status, now.entity_ids) == (connection.status, (first,))


def test_an_event_before_the_callback_is_known_right_after_it(
    fake: FakeFinch, site: Site, finch: Finch
) -> None:
    browser = Browser(site)
    callback = fake.allow(browser.location())
    [issued] = fake.ledger.codes

    early = finch.updates(issued.connection_id, "pending", seconds_from_now=30)
    browser.get(callback)

    assert early.statuses == (200,)
    wait_for_questions()
    assert stored(site).status == "pending"
    assert fake.ledger.calls("introspect") == 0


def test_t49_a_late_event_undoes_nothing_and_finch_is_asked(
    fake: FakeFinch, site: Site, finch: Finch, connection: Connection
) -> None:
    fake.set_status(connection.connection_id, "processing")

    finch.updates(connection.connection_id, "disconnected", seconds_from_now=-3600)

    wait_for_questions()
    assert stored(site).status == "processing"
    assert fake.ledger.calls("introspect") == 1


@pytest.mark.parametrize(("known", "asked"), [("reauth", 1), ("connected", 0)])
def test_the_end_of_a_sync_asks_about_a_connection_that_did_not_work(
    fake: FakeFinch, site: Site, finch: Finch, connection: Connection, known: str, asked: int
) -> None:
    finch.updates(connection.connection_id, known)
    finch.reports(connection.connection_id, "job.data_sync_all.completed", job_id="j")

    wait_for_questions()
    assert stored(site).status == "connected"
    assert fake.ledger.calls("introspect") == asked


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(Behaviour.error(500), "server_error"), (Behaviour.error(429), "throttled")],
)
def test_a_question_that_finch_does_not_answer_is_reported(
    fake: FakeFinch,
    site: Site,
    finch: Finch,
    connection: Connection,
    behaviour: Behaviour,
    reason: str,
) -> None:
    fake.script("introspect", behaviour, times=None)

    delivery = finch.updates(connection.connection_id, "disconnected", seconds_from_now=-3600)

    wait_for_event(site, "finch.connection.not_asked")
    assert delivery.statuses == (200,)
    assert stored(site).status == connection.status


def test_t50_too_many_open_questions_are_left_to_refresh(
    site: Site, finch: Finch, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WAITING_LIMIT", 0)

    delivery = finch.updates(connection.connection_id, "disconnected", seconds_from_now=-3600)

    assert delivery.statuses == (200,)
    assert [each.reason for each in site.named("finch.connection.not_asked")] == ["busy"]


@every_storage
@pytest.mark.parametrize("ids", ["one", "each its own"])
def test_sixty_four_deliveries_at_once_end_in_one_state(
    finch: Finch, site: Site, hook: Hook, connection: Connection, ids: str
) -> None:
    update = account_updated(finch.fake.account(connection.connection_id), "reauth")
    finch.event_id = new_event_id(int(finch.clock().timestamp())) if ids == "one" else ""

    def deliver(number: int) -> int:
        return finch.posts(json.dumps(update).encode()).status

    with ThreadPoolExecutor(64) as pool:
        statuses = set(pool.map(deliver, range(64)))

    assert (statuses, stored(site).status) == ({200}, "reauth")
    assert len({each.event_id for each in hook}) == (1 if ids == "one" else 64)
