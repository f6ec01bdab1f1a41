"""T32 and on: what public reports of deployments show."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from finch_middleware import FinchMiddleware
from finch_middleware.attempts import CODES_PER_FLOW
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, Browser, MakeSite, Site
from tests.storages import SERVERS, every_storage
from tests.story.oracle import code_of, state_of, tokens_of
from tests.story.ways import at_once, both_ways, connected
from tests.threats.desk import ORIGIN, begun, component, returned
from tests.waiting import wait_until
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
    fake: FakeFinch, make_site: MakeSite, storage_options: dict[str, Any], tmp_path: Path
) -> None:
    site = make_site(clock=lambda: datetime.now(UTC))  # the time that all processes share
    browser = Browser(site)
    browser.location()

    with workers_of(fake, site, storage_options, *[{}] * 4, log=tmp_path / "log") as workers:
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


@both_ways
def test_t34_a_deployment_that_changes_redirect_uri_ends_the_flows_that_are_under_way(
    fake: FakeFinch, echo_state: bool
) -> None:
    options: dict[str, Any] = {"storage": MemoryStorage(), "spool": None}
    before, after = (
        component(fake, redirect_uri=ORIGIN + path, callback_path=CALLBACK, **options)
        for path in (CALLBACK, f"/payroll{CALLBACK}")
    )
    held = [begun(before, fake, customer_id="acme"), begun(after, fake, customer_id="umbrella")]
    codes = [
        fake.issue_code(customer_id="acme", redirect_uri=f"{ORIGIN}{CALLBACK}"),
        fake.issue_code(customer_id="umbrella", redirect_uri=f"{ORIGIN}/payroll{CALLBACK}"),
    ]

    answers = [
        returned(
            FinchMiddleware(_nothing, after),
            f"code={code}" + f"&state={each.state}" * echo_state,
            cookie=each.cookie,
        )
        for code, each in zip(codes, held, strict=True)
    ]

    assert [answer.status for answer in answers] == [303, 303]
    assert [fake.ledger.presented(code) for code in codes] == [1, 1]
    stored = [len(after.connections.for_customer(each)) for each in ("acme", "umbrella")]
    assert stored == [1, 1]


def _modes() -> list[Any]:
    """Each line of the manual's table of bindings: its cells."""
    manual = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    table = manual.partition("<!-- modes -->")[2].partition("<!-- /modes -->")[0]
    lines = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    return [
        pytest.param(mode, event, end, id=f"{mode}: {event}")
        for event, *ends in lines
        for mode, end in zip(("ticket", "ticket and login", "login alone"), ends, strict=True)
    ]


#: Whose ticket the browser has, who is signed in, and whose code arrives.
EVENTS = {
    "a code of another customer": ("victim", "victim", "attacker"),
    "another host of your domain": ("attacker", "victim", "attacker"),
    "the person signs in as another": ("acme", "umbrella", "acme"),
    "the person returns in another browser": (None, "acme", "acme"),
    "the victim was made to sign in": ("attacker", "attacker", "attacker"),
}


@without_state
@pytest.mark.parametrize(("mode", "event", "end"), _modes())
def test_t36_each_way_to_bind_a_callback_withstands_what_the_manual_states(
    fake: FakeFinch, mode: str, event: str, end: str
) -> None:
    [(ticket, login, customer_id)] = [of for name, of in EVENTS.items() if event.startswith(name)]
    options: dict[str, Any] = {"customer_of": lambda request: login} if mode != "ticket" else {}
    if mode == "login alone":
        options |= {"opened_by": "application", "flow": "redirect"}
    finch = component(fake, **options)
    cookie = begun(finch, fake, customer_id=ticket).cookie if ticket else None
    code = fake.issue_code(customer_id=customer_id, redirect_uri=f"{ORIGIN}{CALLBACK}")

    answer = returned(FinchMiddleware(_nothing, finch), f"code={code}", cookie=cookie)

    stored = [each.customer_id for each in finch.storage.scan(after=None, limit=9).rows]
    assert fake.ledger.presented(code) == (end != "refused")
    assert len(list(finch.storage.quarantined())) == (end == "quarantined")
    assert stored == [customer_id] * (end == "stored")
    assert answer.status == {"refused": 400, "quarantined": 403, "stored": 303}[end]


@without_state
@pytest.mark.parametrize(
    ("login", "status"), [(None, 400), ("acme", 303), ("umbrella", 400)], ids=str
)
def test_t36_a_ticket_behind_a_comma_counts_only_where_it_is_the_logins(
    fake: FakeFinch, login: str | None, status: int
) -> None:
    finch = component(fake, **({"customer_of": lambda request: login} if login else {}))
    held = begun(finch, fake, customer_id="acme")
    code = fake.issue_code(customer_id="acme", redirect_uri=f"{ORIGIN}{CALLBACK}")

    answer = returned(
        FinchMiddleware(_nothing, finch), f"code={code}", cookie=f"session=1,{held.cookie}"
    )

    assert answer.status == status
    assert fake.ledger.presented(code) == (status == 303)


def test_t37_of_two_reauthentications_at_once_the_last_response_counts(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location()))
    held, other = (fake.allow(browser.location()) for _ in range(2))

    gate = threading.Event()

    def late(response: Response) -> Response:
        gate.wait()
        return response

    fake.script("token", dataclasses.replace(Behaviour(), shape=late))
    with ThreadPoolExecutor(1) as pool:
        visit = pool.submit(browser.get, held)
        try:
            wait_until(lambda: len(fake.ledger.tokens) == 2)
            answers = [browser.get(other)]
        finally:
            gate.set()
        answers.append(visit.result())

    [first, second] = fake.ledger.tokens[1:]
    assert all(connected(answer) for answer in answers)
    assert [code_of(each) for each in (held, other)] == [c.code for c in fake.ledger.codes[1:]]
    assert tokens_of(site, "acme") == [first] != [second]
    assert len(site.named("finch.token.replaced")) == 2


def _nothing(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("not the application's")
