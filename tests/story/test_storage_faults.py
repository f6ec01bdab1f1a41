"""The storage or the spool is away: before the exchange nothing is spent, after it nothing lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware import exchange
from finch_middleware.attempts import AttemptState
from finch_middleware.errors import SchemaMismatch
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import SAME_ORIGIN_FETCH, Answer, Browser, Site
from tests.story.oracle import attempt_of, code_of, nothing_stored, tokens_of

both_ways = pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pauses between the tries to settle."""
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0, 0.0, 0.0))


@both_ways
def test_a_storage_that_is_away_at_the_claim_leaves_the_code_unspent(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.down("claim", times=1)

    refused, answer = browser.get(callback), browser.get(callback)

    assert refused.status == 503
    assert refused.headers["Retry-After"] == "5"
    assert 'href=""' in refused.text
    event = site.events[0]
    assert (event.name, event.level) == ("finch.storage.unavailable", logging.ERROR)
    assert str(event.reference) in refused.text
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_a_claim_whose_commit_was_cut_off_is_known_again(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.cut("claim")

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_a_claim_that_is_being_looked_up_again_is_nobody_elses_to_release(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    double_click: list[Future[Answer]] = []

    def click_again() -> None:
        double_click.append(pool.submit(browser.get, callback))
        until = time.monotonic() + 60
        while not (double_click[0].done() or site.named("finch.callback.joined")):
            assert time.monotonic() < until
            time.sleep(0.01)

    faulty.cut("claim")
    faulty.after("attempt", click_again)

    with ThreadPoolExecutor(1) as pool:
        answers = [browser.get(callback), *(each.result() for each in double_click)]

    assert [answer.status for answer in answers] == [303, 303]
    assert fake.ledger.calls("token") == 1


def test_a_claim_that_the_storage_finds_again_by_itself_is_our_own(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.twice("claim")

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


def test_tables_that_do_not_fit_are_reported_as_such(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.raises("claim", SchemaMismatch("run create-tables"))

    answer = browser.get(callback)

    assert answer.status == 503
    assert [event.reason for event in site.events] == ["schema_mismatch"]
    assert fake.ledger.calls("token") == 0


@both_ways
@pytest.mark.parametrize("error", [None, RuntimeError("a driver's own")], ids=["ours", "odd"])
def test_a_passing_fault_at_the_settling_is_not_seen_by_the_person(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    faulty: FaultyStorage,
    error: Exception | None,
) -> None:
    callback = fake.allow(browser.location())
    if error is None:
        faulty.down("settle", times=2)
    else:
        faulty.raises("settle", error)

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert [event.name for event in site.events] == [
        "finch.storage.retried",
        "finch.connection.stored",
    ]
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_a_settling_whose_commit_was_cut_off_stores_one_connection(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.cut("settle")

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_the_tries_to_settle_end_with_their_time(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    faulty: FaultyStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    callback = fake.allow(browser.location())
    monkeypatch.setattr(exchange, "SETTLE_TRIES_SECONDS", -1.0)
    faulty.down("settle")

    answer = browser.get(callback)

    assert "finch=finishing" in answer.location
    assert faulty.calls.count("settle") == 1


@both_ways
def test_a_storage_that_is_away_at_the_settling_costs_no_token(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage, tmp_path: Path
) -> None:
    callback = fake.allow(browser.location())
    faulty.down("settle")

    answer = browser.get(callback)

    assert answer.status == 303
    assert answer.location.startswith("/settings?finch=finishing&finch_ref=")
    [event] = site.named("finch.token.spooled")
    assert event.level == logging.ERROR
    assert answer.location.endswith(f"finch_ref={event.reference}")
    [file] = (tmp_path / "spool").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert fake.ledger.tokens[0] not in file.read_text()
    assert nothing_stored(site)


def test_a_script_is_told_that_there_is_nothing_to_do(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.down("settle")

    answer = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert answer.status == 202
    assert (answer.json["outcome"], answer.json["retry"]) == ("finishing", "none")


def _reload(fake: FakeFinch, browser: Browser, callback: str) -> None:
    browser.get(callback)


def _begin(fake: FakeFinch, browser: Browser, callback: str) -> None:
    browser.location("umbrella")


def _finish(fake: FakeFinch, browser: Browser, callback: str) -> None:
    unknown = Browser(browser.site)
    unknown.get(fake.deny(unknown.location("umbrella")).replace("error=access_denied", "code=x"))


@both_ways
@pytest.mark.parametrize("visit", [_reload, _begin, _finish])
def test_the_next_visit_brings_a_spooled_token_home(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    faulty: FaultyStorage,
    tmp_path: Path,
    visit: Callable[[FakeFinch, Browser, str], None],
) -> None:
    callback = fake.allow(browser.location())
    faulty.down("settle")
    browser.get(callback)
    faulty.heal()

    visit(fake, browser, callback)

    assert len(site.named("finch.spool.drained")) == 1
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert not list((tmp_path / "spool").iterdir())
    assert "finch=connected" in browser.get(callback).location
    assert fake.ledger.presented(code_of(callback)) == 1


@both_ways
def test_a_waiting_token_is_not_told_to_another_browser(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    faulty.down("settle")
    first, second = browser.get(callback), browser.get(callback)
    stranger = Browser(site)
    stranger.location("umbrella")

    answer = stranger.get(callback.partition("&state=")[0])

    assert (first.status, first.location) == (second.status, second.location)
    assert answer.status == 400
    assert fake.ledger.presented(code_of(callback)) == 1


def test_an_older_token_from_the_spool_does_not_replace_a_newer_one(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage, clock: Clock
) -> None:
    old, new = browser.location(), browser.location()
    faulty.down("settle", times=4)  # three tries, and the next visit in passing
    browser.get(fake.allow(old))
    clock.move(timedelta(seconds=1))

    browser.get(fake.allow(new))
    browser.location("umbrella")

    assert site.named("finch.spool.superseded")
    assert not site.named("finch.spool.drained")
    assert tokens_of(site, "acme") == [fake.ledger.tokens[1]]


def test_a_quarantined_token_waits_in_the_spool_too(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    fake.script("token", Behaviour.alter(customer_id="umbrella"))
    faulty.down("settle")

    first, second = (browser.request("GET", callback, headers=SAME_ORIGIN_FETCH) for _ in "ab")
    faulty.heal()
    third = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert first.status == second.status == third.status == 403
    assert first.json == second.json == third.json
    attempt = attempt_of(site, fake, code_of(callback))
    assert attempt is not None
    assert attempt.state is AttemptState.QUARANTINED
    assert nothing_stored(site)


def test_a_spool_that_cannot_be_written_lets_no_code_be_spent(
    fake: FakeFinch, site: Site, browser: Browser, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    full = make_site(
        spool=tmp_path / "file" / "spool",
        storage=site.finch.storage,
        redirect_uri=site.origin + "/finch/callback",
    )
    callback = fake.allow(browser.location())

    refused = Browser(full, dict(browser.cookies)).get(callback)
    answer = browser.get(callback)

    assert refused.status == 503
    told = [(event.name, event.reason) for event in full.events]
    assert told == [("finch.spool.unavailable", "unwritable")]
    assert "finch=connected" in answer.location
    assert fake.ledger.calls("token") == 1


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.normal(), Behaviour.alter(customer_id="umbrella")],
    ids=["own", "quarantined"],
)
def test_a_token_that_nothing_could_keep_is_reported_as_lost(
    fake: FakeFinch, make_site: Callable[..., Site], faulty: FaultyStorage, behaviour: Behaviour
) -> None:
    site = make_site(storage=faulty, spool=None)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    fake.script("token", behaviour)
    faulty.down("settle")

    answer = browser.request("GET", callback, headers=SAME_ORIGIN_FETCH)

    assert answer.status == 500
    assert (answer.json["reason"], answer.json["retry"]) == ("token_lost", "restart")
    [event] = site.named("finch.token.lost")
    assert event.level == logging.CRITICAL
    assert event.connection_id == fake.ledger.codes[0].connection_id
    assert event.reference == answer.json["reference"]
    assert fake.ledger.calls("disconnect") == 0


def test_a_reload_while_the_storage_is_away_is_told_so(
    fake: FakeFinch, site: Site, browser: Browser, faulty: FaultyStorage
) -> None:
    callback = fake.allow(browser.location())
    first = browser.get(callback)
    faulty.down("attempt", "claim", times=1)

    away, again = browser.get(callback), browser.get(callback)

    assert away.status == 503
    assert again.location == first.location


@pytest.mark.parametrize("foreign", [False, True], ids=["expected", "quarantined"])
def test_nobody_is_told_of_a_token_before_it_is_on_a_disk(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    faulty: FaultyStorage,
    tmp_path: Path,
    foreign: bool,
) -> None:
    spool, waiting = tmp_path / "spool", []
    site = make_site(
        storage=faulty,
        spool=spool,
        on_event=lambda event: waiting.append((event.name, len(list(spool.glob("*.json"))))),
    )
    browser = Browser(site)
    callback = fake.allow(browser.location())
    waiting.clear()
    changes = {"customer_id": "somebody-else"} if foreign else {}
    fake.script("token", Behaviour.alter(products=["company"], **changes))
    faulty.down("settle")

    browser.get(callback)

    assert {"finch.storage.unavailable", "finch.token.spooled"} <= {name for name, _ in waiting}
    assert {files for _, files in waiting} == {1}
