"""The application's own functions: render, on_connected, on_event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from finch_middleware import CallbackRequest, Connected, Connection, Outcome, Repeated, Response
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import Browser, MakeSite
from tests.story.oracle import attempt_of, code_of
from tests.story.ways import both_ways


class Noted:
    """An `on_connected` that raises at its first *failures* calls."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.connections: list[Connection] = []

    def __call__(self, connection: Connection) -> None:
        self.connections.append(connection)
        if len(self.connections) <= self.failures:
            raise RuntimeError(f"broken with {connection.access_token.reveal()}")


def test_on_connected_gets_the_connection_once(
    fake: FakeFinch, make_site: MakeSite, clock: Clock
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
    fake: FakeFinch, make_site: MakeSite, clock: Clock
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


def test_on_connected_runs_for_a_token_recovered_from_the_spool(
    fake: FakeFinch,
    make_site: MakeSite,
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


@both_ways
def test_a_response_of_the_application_keeps_our_cookie(
    fake: FakeFinch, make_site: MakeSite
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


def _raise(outcome: Outcome, request: CallbackRequest) -> Response:
    raise RuntimeError("no such template")


@pytest.mark.parametrize(
    ("render", "failures"),
    [(lambda *_: None, 0), (lambda *_: "connected, thanks", 1), (_raise, 1)],
    ids=["None", "no response", "raises"],
)
def test_a_render_that_returns_no_response_leaves_the_page_to_us(
    fake: FakeFinch, make_site: MakeSite, render: Any, failures: int
) -> None:
    site = make_site(render=render)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    first, second = browser.get(callback), browser.get(callback)

    assert "finch=connected" in first.location
    assert second.location == first.location
    reasons = [event.reason for event in site.named("finch.hook.failed")]
    assert reasons == ["render"] * 2 * failures
    assert len(first.headers.get_all("Set-Cookie") or []) == 1


def test_render_gets_failures_too(fake: FakeFinch, make_site: MakeSite) -> None:
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
