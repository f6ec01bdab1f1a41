"""The application's own code in the story: its render, its on_connected, its on_event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import (
    CallbackRequest,
    Connected,
    Connection,
    Event,
    Outcome,
    Repeated,
    Response,
)
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, Site
from tests.story.oracle import attempt_of, code_of, tokens_of
from tests.story.ways import both_ways


class Noted:
    """An `on_connected` that raises as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.connections: list[Connection] = []

    def __call__(self, connection: Connection) -> None:
        self.connections.append(connection)
        if len(self.connections) <= self.failures:
            raise RuntimeError(f"broken with {connection.access_token.reveal()}")


def test_on_connected_gets_the_connection_once(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    noted = Noted()
    site = make_site(on_connected=noted)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    browser.get(callback)
    clock.move(timedelta(seconds=61))
    browser.get(callback)

    [connection] = noted.connections
    assert connection.customer_id == "acme"
    assert connection.access_token.reveal() == fake.ledger.tokens[0]
    attempt = attempt_of(site, fake, code_of(callback))
    assert attempt is not None
    assert attempt.notified
    assert connection.attempt_id == attempt.attempt_id


@both_ways
def test_an_on_connected_that_raises_is_called_again_after_the_lease(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    noted = Noted(failures=1)
    site = make_site(on_connected=noted)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    first = browser.get(callback)
    within_the_lease = browser.get(callback)
    called_within = len(noted.connections)
    clock.move(timedelta(seconds=61))
    later = [browser.get(callback) for _ in range(2)]

    assert "finch=connected" in first.location
    assert {each.location for each in (within_the_lease, *later)} == {first.location}
    assert called_within == 1
    assert len(noted.connections) == 2
    [event] = site.named("finch.hook.failed")
    assert event.reason == "on_connected"


def test_an_owed_on_connected_of_a_connection_that_is_gone_is_not_called(
    fake: FakeFinch, make_site: Callable[..., Site], clock: Clock
) -> None:
    noted = Noted(failures=1)
    site = make_site(on_connected=noted)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    browser.get(callback)
    site.finch.storage.delete(fake.ledger.codes[0].connection_id)
    clock.move(timedelta(seconds=61))

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert len(noted.connections) == 1
    assert len(site.named("finch.hook.failed")) == 1


def test_on_connected_runs_for_a_token_that_came_home_from_the_spool(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    faulty: FaultyStorage,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finch_middleware.exchange.SETTLE_PAUSES", (0.0,))
    noted = Noted()
    site = make_site(on_connected=noted, storage=faulty, spool=tmp_path / "spool")
    browser = Browser(site)
    faulty.down("settle", times=1)
    browser.get(fake.allow(browser.location()))
    before = len(noted.connections)

    browser.location("umbrella")

    assert before == 0
    assert [each.access_token.reveal() for each in noted.connections] == list(fake.ledger.tokens)


def test_an_on_event_that_raises_harms_nobody(
    fake: FakeFinch, make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("the alarm is broken")

    site = make_site(on_event=broken)
    browser = Browser(site)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    messages = [r.getMessage() for r in caplog.records if r.name == "finch_middleware"]
    assert any("finch.hook.failed on_event" in message for message in messages)


@both_ways
def test_an_answer_of_the_application_keeps_our_cookie(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    seen: list[Outcome] = []

    def render(outcome: Outcome, request: CallbackRequest) -> Response:
        seen.append(outcome)
        response = Response("in our own words", status=201)
        response.set_cookie("session", "theirs")
        return response

    site = make_site(render=render)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    first, second = browser.get(callback), browser.get(callback)

    assert first.status == second.status == 201
    assert first.text == "in our own words"
    cookies = first.headers.get_all("Set-Cookie") or []
    assert [cookie.partition("=")[0][:6] for cookie in cookies] == ["sessio", "finch-"]
    assert isinstance(seen[0], Connected)
    assert isinstance(seen[1], Repeated)
    assert seen[1].first == seen[0]
    assert fake.ledger.calls("token") == 1


def test_an_answer_of_none_leaves_it_to_us(fake: FakeFinch, make_site: Callable[..., Site]) -> None:
    site = make_site(render=lambda outcome, request: None)
    browser = Browser(site)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location


def test_an_answer_that_raises_costs_nobody_their_page(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    def broken(outcome: Outcome, request: CallbackRequest) -> Response:
        raise RuntimeError("no such template")

    site = make_site(render=broken)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    first, second = browser.get(callback), browser.get(callback)

    assert "finch=connected" in first.location
    assert second.location == first.location
    assert [event.reason for event in site.named("finch.hook.failed")] == ["render", "render"]
    assert len(first.headers.get_all("Set-Cookie") or []) == 1


def test_an_answer_that_is_no_response_costs_nobody_their_page(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site(render=lambda outcome, request: "connected, thanks")
    browser = Browser(site)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert [event.reason for event in site.named("finch.hook.failed")] == ["render"]


def test_an_answer_may_be_given_to_failures_too(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    def render(outcome: Outcome, request: CallbackRequest) -> Response:
        return Response(type(outcome).__name__)

    site = make_site(render=render)
    browser = Browser(site)
    location = browser.location()
    declined = browser.get(fake.deny(location))
    callback = fake.allow(location)
    stranger = Browser(site).get(callback)
    fake.stop()

    unreachable = browser.get(callback)

    assert [each.text for each in (declined, stranger, unreachable)] == [
        "Declined",
        "Invalid",
        "Failed",
    ]
