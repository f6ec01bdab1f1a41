"""The signed-in customer decides about a callback, with a ticket or, by option, without."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.wrappers import Request

from finch_middleware import Connected, FinchConnect
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.web.texts import TEXTS
from tests.site import CALLBACK, NAVIGATION, Answer, Browser, MakeSite, Site
from tests.story.oracle import attempt_of, code_of, exchanges, tokens_of
from tests.story.ways import allowed, both_ways, connected, every_way

Login = str | int | Collection[Any] | None


class Session:
    """An application's login, as `customer_of` reads it."""

    def __init__(self, login: Login = None) -> None:
        self.login = login
        self.environs: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.environs.append(request.environ)
        return self.login


@every_way
@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ("4711", None),
        (4711, None),
        (["acme", "4711"], None),
        ({4711, 12}, None),
        (("4711",), None),
        (None, "signed_out"),
        ([], "signed_out"),
        ([None], "signed_out"),
        ("acme", "other_customer"),
        (["acme", "umbrella"], "other_customer"),
    ],
    ids=repr,
)
def test_the_ticket_must_be_of_a_customer_of_this_login(
    fake: FakeFinch, make_site: MakeSite, flow: str, login: Login, reason: str | None
) -> None:
    site = make_site(customer_of=Session(login))
    browser = Browser(site)
    comeback = allowed(fake, browser, "4711", flow=flow)

    answer = comeback.brought_by(browser)

    assert connected(answer) is (reason is None)
    assert fake.ledger.presented(comeback.code) == (1 if reason is None else 0)
    assert tokens_of(site, "4711") == list(fake.ledger.tokens)
    rejected = site.named("finch.callback.rejected")
    assert [event.reason for event in rejected] == ([] if reason is None else [reason])
    if reason is not None:
        assert answer.status == 400
        assert TEXTS[f"invalid.{reason}"]["title"] in answer.text
        assert str(rejected[0].reference) in answer.text
        assert attempt_of(site, fake, comeback.code) is None


def test_the_login_is_read_from_the_untouched_environ(fake: FakeFinch, make_site: MakeSite) -> None:
    session = Session("acme")
    site = make_site(customer_of=session)
    browser = Browser(site)

    browser.get(fake.allow(browser.location()), **{"X-Of-The-Application": "kept"})

    [environ] = session.environs
    assert environ["HTTP_X_OF_THE_APPLICATION"] == "kept"
    assert environ["PATH_INFO"] == CALLBACK


@both_ways
def test_a_flow_survives_a_sign_out_meanwhile(fake: FakeFinch, make_site: MakeSite) -> None:
    session = Session(None)
    site = make_site(customer_of=session)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    signed_out = browser.get(callback)
    session.login = "acme"
    answer = browser.get(callback)

    assert "Please sign in again" in signed_out.text
    assert "finch=connected" in answer.location


@both_ways
@pytest.mark.parametrize(
    ("login", "status"), [("acme", 303), (["x", "acme"], 303), (None, 400), ("umbrella", 400)]
)
def test_a_view_passes_the_signed_in_customer(
    fake: FakeFinch, make_site: MakeSite, login: Login, status: int
) -> None:
    session = Session("umbrella")
    site = make_site(customer_of=session)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    site.app = _view(site.finch, login)

    answer = browser.get(callback)

    assert answer.status == status
    assert session.environs == []
    assert len(fake.ledger.tokens) == (1 if status == 303 else 0)


def test_a_view_may_finish_and_respond_in_two_steps(
    site: Site, browser: Browser, callback: str
) -> None:
    seen = []

    def view(environ: Any, start: Any) -> Any:
        outcome = site.finch.finish(environ, customer_id="acme")
        seen.append(outcome)
        return site.finch.respond(outcome, environ)(environ, start)

    site.app = view

    browser.get(callback)

    [outcome] = seen
    assert isinstance(outcome, Connected)
    assert outcome.customer_id == "acme"


# -- the application opens Connect itself ---------------------------------------------------


def _returned(browser: Browser, code: str, *, flow: str, state: str = "") -> Answer:
    if flow == "embedded":
        return browser.fetch({"code": code, **({"state": state} if state else {})})
    query = f"code={code}" + (f"&state={state}" if state else "")
    return browser.request("GET", f"{CALLBACK}?{query}", headers=NAVIGATION)


def _code(fake: FakeFinch, site: Site, customer_id: str, *, flow: str) -> str:
    redirect_uri = site.origin + CALLBACK if flow == "redirect" else None
    return fake.issue_code(customer_id=customer_id, redirect_uri=redirect_uri)


flows = pytest.mark.parametrize("flow", ["redirect", "embedded"])


@flows
@pytest.mark.parametrize("state", ["", "of-the-application"])
def test_the_login_alone_decides_where_the_application_opens_connect(
    fake: FakeFinch, make_site: MakeSite, flow: str, state: str
) -> None:
    site = make_site(opened_by="application", flow=flow, customer_of=Session("acme"))
    browser = Browser(site)
    code = _code(fake, site, "acme", flow=flow)

    first = _returned(browser, code, flow=flow, state=state)
    second = _returned(browser, code, flow=flow, state=state)

    assert first.status == (303 if flow == "redirect" else 200)
    assert (first.status, first.location, first.body) == (
        second.status,
        second.location,
        second.body,
    )
    assert fake.ledger.presented(code) == 1
    assert ("redirect_uri" in exchanges(fake)[0]) == (flow == "redirect")
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@flows
def test_a_login_with_several_employers_gets_the_one_of_the_answer(
    fake: FakeFinch, make_site: MakeSite, flow: str
) -> None:
    session = Session(["acme", "umbrella", 12])
    site = make_site(opened_by="application", flow=flow, customer_of=session)
    code = _code(fake, site, "umbrella", flow=flow)

    _returned(Browser(site), code, flow=flow)

    assert tokens_of(site, "umbrella") == list(fake.ledger.tokens)
    attempt = attempt_of(site, fake, code)
    assert attempt is not None
    assert attempt.customer_ids == ("12", "acme", "umbrella")


@both_ways
def test_a_ticket_still_counts_where_the_application_opens_connect(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    site = make_site(opened_by="application", flow="redirect", customer_of=Session("acme"))
    browser = Browser(site)
    callback = fake.allow(browser.location())

    first, second = browser.get(callback), browser.get(callback)

    assert first.location.startswith("/settings?finch=connected")
    assert second.location == first.location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@pytest.mark.parametrize(
    ("customer_id", "flow", "passed"),
    [
        ("acme", "embedded", timedelta(0)),
        ("umbrella", "redirect", timedelta(0)),
        ("acme", "redirect", timedelta(hours=2)),
    ],
    ids=["of the other flow", "of another customer", "expired"],
)
def test_a_ticket_that_does_not_fit_is_left_alone(
    fake: FakeFinch,
    make_site: MakeSite,
    clock: Clock,
    customer_id: str,
    flow: str,
    passed: timedelta,
) -> None:
    site = make_site(opened_by="application", flow="redirect", customer_of=Session("acme"))
    site.opening["flow"] = flow
    browser = Browser(site)
    browser.begin(customer_id)
    before = dict(browser.cookies)
    clock.move(passed)

    answer = browser.get(f"{CALLBACK}?code={_code(fake, site, 'acme', flow='redirect')}")

    assert answer.location.startswith("/?finch=connected")
    assert browser.cookies == before
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_a_login_that_cannot_be_read_is_the_applications_error(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    def broken(request: Any) -> str:
        raise RuntimeError("no session store")

    site = make_site(customer_of=broken)
    browser = Browser(site)
    callback = fake.allow(browser.location())

    answer = browser.get(callback)

    assert answer.status == 500
    assert [str(error) for error in site.errors] == ["no session store"]
    assert fake.ledger.presented(code_of(callback)) == 0
    site.errors.clear()


def _view(finch: FinchConnect, login: Login) -> Any:
    def view(environ: Any, start: Any) -> Any:
        answer = finch.callback(Request(environ), customer_id=login)  # type: ignore[arg-type]  # a number, too
        return answer(environ, start)

    return view
