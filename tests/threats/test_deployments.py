"""T32 and on: what public reports of deployments show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.attempts import CODES_PER_FLOW
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, Browser, Site
from tests.storages import SERVERS, every_storage
from tests.story.oracle import code_of, state_of, tokens_of
from tests.story.ways import at_once
from tests.worker_processes import workers_of

without_state = pytest.mark.parametrize("echo_state", [False], ids=["no-state"])


@every_storage
@without_state
def test_t32_a_ticket_presents_five_codes_and_the_sixth_is_refused_unwritten(
    fake: FakeFinch, site: Site, browser: Browser, storage_options: dict[str, Any]
) -> None:
    location = browser.location()
    stale = Browser(site, dict(browser.cookies))
    invented = [stale.get(f"{CALLBACK}?code=invented-{n}") for n in range(3)]
    own = browser.get(fake.allow(location))
    # The person's own code ends the flow, and a copy of the ticket has one place left.
    later = [stale.get(f"{CALLBACK}?code=later-{n}") for n in range(3)]
    by_state = stale.get(f"{CALLBACK}?code=by-state&state={state_of(location)}")

    assert [each.status for each in invented] == [400] * 3
    assert own.status == 303
    assert {each.status for each in (*later, by_state)} == {400}
    assert fake.ledger.calls("token") == CODES_PER_FLOW
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    rejected = [event.reason for event in site.named("finch.callback.rejected")]
    assert rejected == ["code_mismatch"] * 3


@pytest.mark.parametrize("storage_options", ["sqlite", *SERVERS], indirect=True)
@pytest.mark.full
def test_t32_twenty_codes_at_once_to_four_processes_have_five_places(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_options: dict[str, Any],
    tmp_path: Path,
) -> None:
    site = make_site(clock=lambda: datetime.now(UTC))  # the time that all processes share
    browser = Browser(site)
    browser.location()

    with workers_of(fake, site, storage_options, count=4, log=tmp_path / "log") as workers:
        visits = [
            partial(
                Browser(workers[n % 4], dict(browser.cookies)).get, f"{CALLBACK}?code=invented-{n}"
            )
            for n in range(20)
        ]
        answers = at_once(visits)

    assert {each.status for each in answers} == {400}
    assert fake.ledger.calls("token") == CODES_PER_FLOW


@without_state
def test_t32_a_code_that_finch_did_not_take_leaves_its_place(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    fake.script("token", *[Behaviour.error(429)] * (CODES_PER_FLOW + 1))
    callback = fake.allow(browser.location())

    throttled = [browser.get(callback).status for _ in range(CODES_PER_FLOW + 1)]
    answer = browser.get(callback)

    assert throttled == [503] * (CODES_PER_FLOW + 1)
    assert answer.status == 303
    assert fake.ledger.presented(code_of(callback)) == CODES_PER_FLOW + 2


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 529])
def test_t33_no_status_but_429_makes_a_code_be_presented_again(
    fake: FakeFinch, site: Site, browser: Browser, callback: str, status: int
) -> None:
    minted = Behaviour.response("busy", status=status, headers={"Retry-After": "0"}, processed=True)
    fake.script("token", minted)

    answers = [browser.get(callback) for _ in range(2)]

    assert {each.status for each in answers} == {502}
    assert fake.ledger.presented(code_of(callback)) == 1
    assert len(fake.ledger.tokens) == 1
    assert len(site.events) == 1
