"""T1 to T4: callbacks that another person made."""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from finch_middleware import ConnectSession
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, NAVIGATION, Browser, MakeSite, Site
from tests.story.oracle import code_of, state_of


def _link(code: str, state: str | None = None) -> str:
    given = {"code": code} if state is None else {"code": code, "state": state}
    return f"{CALLBACK}?{urlencode(given)}"


class _Scene:
    """A victim's browser, an attacker's, and a second configuration with the same key."""

    def __init__(
        self, fake: FakeFinch, *, make_site: MakeSite, clock: Clock, own_flow: bool, login: bool
    ) -> None:
        options: dict[str, Any] = {"customer_of": lambda request: "victim"} if login else {}
        self.fake, self.clock = fake, clock
        self.site = make_site(**options)
        self.other_site = make_site(client_id="client-other")
        self.victim = Browser(self.site)
        self.own = self.victim.location("victim") if own_flow else None
        attacker = Browser(make_site())
        attackers = attacker.location("mallory")
        self.attackers_state = state_of(attackers)
        self.code = fake.issue_code(
            customer_id="mallory", redirect_uri=f"{self.site.origin}{CALLBACK}"
        )

    def state(self, kind: str) -> str | None:
        """The state on the link that the victim is lured to."""
        match kind:
            case "none":
                return None
            case "wrong":
                return secrets.token_urlsafe(16)
            case "other browser's":
                return self.attackers_state
            case "other configuration's":
                return self._of_other_configuration()
            case "other user's":
                return self._of_other_user()
            case "expired":
                location = self.victim.location("victim")
                self.clock.move(timedelta(hours=2))
                return state_of(location)
            case _:
                return self._used()

    def _of_other_configuration(self) -> str:
        elsewhere = Browser(self.other_site)
        begun = self.other_site.finch.begin(
            customer_id="victim", customer_name="V", session=_session(self.fake)
        )
        cookie = begun.headers["Set-Cookie"].partition(";")[0]
        name, _, value = cookie.partition("=")
        # Both are on localhost, whose cookies know no port.
        elsewhere.cookies[name] = self.victim.cookies[name] = value
        return state_of(begun.headers["Location"])

    def _of_other_user(self) -> str:
        # Somebody else's flow in somebody else's browser, of the same application.
        return state_of(Browser(self.site).location("somebody-else"))

    def _used(self) -> str:
        location = self.victim.location("victim")
        answer = self.victim.get(self.fake.allow(location))
        assert answer.status == 303
        return state_of(location)


def _session(fake: FakeFinch) -> ConnectSession:
    return ConnectSession("session-1", f"{fake.connect_origin}/authorize?session=session-1")


@pytest.mark.parametrize("login", [False, True], ids=["by ticket", "with login"])
@pytest.mark.parametrize("own_flow", [False, True], ids=["no flow", "own flow"])
@pytest.mark.parametrize(
    "kind", ["wrong", "other browser's", "other configuration's", "other user's", "expired", "used"]
)
def test_t01_a_code_with_a_state_that_is_not_this_browsers_makes_no_call(
    fake: FakeFinch, make_site: MakeSite, clock: Clock, kind: str, own_flow: bool, login: bool
) -> None:
    scene = _Scene(fake, make_site=make_site, clock=clock, own_flow=own_flow, login=login)
    state = scene.state(kind)
    calls = fake.ledger.calls("token")

    answer = scene.victim.get(_link(scene.code, state))
    calls_after = fake.ledger.calls("token")
    # Two hours later nobody's flow is good any more.
    still_good = scene.own is not None and kind != "expired"
    own = scene.victim.get(fake.allow(scene.own)) if scene.own and still_good else None

    assert answer.status == 400
    assert calls_after == calls
    assert own is None or "finch=connected" in own.location
    assert fake.ledger.minted(scene.code) == ()
    assert scene.site.finch.connections.for_customer("mallory") == []


@pytest.mark.parametrize("login", [False, True], ids=["by ticket", "with login"])
def test_t01_a_code_without_state_makes_no_call_where_no_flow_was_begun(
    fake: FakeFinch, make_site: MakeSite, clock: Clock, login: bool
) -> None:
    scene = _Scene(fake, make_site=make_site, clock=clock, own_flow=False, login=login)

    answer = scene.victim.get(_link(scene.code))

    assert answer.status == 400
    assert fake.ledger.calls("token") == 0


@pytest.mark.parametrize("login", [False, True], ids=["by ticket", "with login"])
def test_t01_stripping_the_state_stores_nothing_and_leaves_the_victims_flow_usable(
    fake: FakeFinch, make_site: MakeSite, clock: Clock, login: bool
) -> None:
    scene = _Scene(fake, make_site=make_site, clock=clock, own_flow=True, login=login)
    assert scene.own is not None

    forged = scene.victim.get(_link(scene.code))
    own = scene.victim.get(fake.allow(scene.own))

    assert forged.status == 403
    assert fake.ledger.presented(scene.code) == 1
    assert scene.site.finch.connections.for_customer("mallory") == []
    assert own.status == 303
    [connection] = scene.site.finch.connections.for_customer("victim")
    assert connection.access_token.reveal() not in fake.ledger.minted(scene.code)


def test_t01_with_require_state_a_link_without_state_makes_no_call(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    browser = Browser(make_site(require_state=True))
    callback = fake.allow(browser.location("victim"))

    stripped = browser.get(_link(code_of(callback)))
    calls = fake.ledger.calls("token")
    whole = browser.get(callback)

    assert (stripped.status, calls) == (400, 0)
    assert whole.status == 303


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT"])
def test_t02_no_request_to_the_callback_begins_a_flow(
    fake: FakeFinch, browser: Browser, method: str
) -> None:
    queries = ["", "customer_id=acme", "customer=acme&begin=1", "action=begin&flow=embedded"]

    answers = [browser.request(method, f"{CALLBACK}?{q}", headers=NAVIGATION) for q in queries]

    assert fake.ledger.calls("sessions") == 0
    assert [answer.headers.get_all("Set-Cookie") for answer in answers] == [None] * len(queries)
    assert [answer.location for answer in answers] == [""] * len(queries)


def test_t02_a_flow_that_the_victim_was_made_to_begin_takes_no_foreign_code(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    location = browser.location("victim")
    code = fake.issue_code(customer_id="mallory", redirect_uri=f"{site.origin}{CALLBACK}")

    answer = browser.get(_link(code, state_of(location)))

    assert answer.status == 403
    assert site.finch.connections.for_customer("victim") == []


def test_t03_a_stolen_code_in_the_thiefs_own_flow_is_quarantined(
    fake: FakeFinch, site: Site
) -> None:
    stolen = code_of(fake.allow(Browser(site).location("victim")))
    thief = Browser(site)
    location = thief.location("mallory")

    answer = thief.get(_link(stolen, state_of(location)))

    assert answer.status == 403
    assert fake.ledger.presented(stolen) == 1
    assert fake.ledger.calls("disconnect") == 0
    assert _tokens_of(site) == []
    [event] = site.named("finch.token.quarantined")
    assert (event.level, event.reason) == (logging.CRITICAL, "other_customer")
    [kept] = site.finch.storage.quarantined()
    assert kept.sealed is not None
    assert fake.ledger.tokens[0] not in kept.sealed.text


def _tokens_of(site: Site) -> list[object]:
    """The rows of the token table."""
    return list(site.finch.storage.scan(after=None, limit=100).rows)


ANOTHER: list[object] = ["victim", "ACME", "acme ", 0, 4711, -1, None, "", "null", "None"]


@pytest.mark.parametrize("answered", [*ANOTHER, True, ["acme"], {"id": "acme"}, 1.0], ids=repr)
def test_t03_another_customer_id_in_the_answer_stores_nothing(
    fake: FakeFinch, site: Site, browser: Browser, answered: object
) -> None:
    fake.script("token", Behaviour.alter(customer_id=answered))

    answer = browser.get(fake.allow(browser.location("acme")))

    assert answer.status == 403
    assert _tokens_of(site) == []
    # Finch issued it: an operator can still find out to which customer it belongs.
    assert len(site.finch.storage.quarantined()) == len(fake.ledger.tokens) == 1
    assert len(site.named("finch.token.quarantined")) == 1


def test_t03_a_number_equals_the_same_number_as_text(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    fake.script("token", Behaviour.alter(customer_id=4711))

    answer = browser.get(fake.allow(browser.location("4711")))

    assert answer.status == 303
    [connection] = site.finch.connections.for_customer("4711")
    assert connection.access_token.reveal() == fake.ledger.tokens[0]


@pytest.mark.parametrize("swapped", ["cookies", "path", "cookies and path"])
def test_t04_nothing_of_one_client_is_taken_by_another(
    fake: FakeFinch, make_site: MakeSite, swapped: str
) -> None:
    with FakeFinch(client_id="client-sandbox") as sandbox:
        production = make_site()
        other = make_site(
            client_id=sandbox.client_id,
            client_secret=sandbox.client_secret,
            api_url=sandbox.api_url,
            connect_origin=sandbox.connect_origin,
        )
        ours, theirs = Browser(production), Browser(other)
        ours_back = fake.allow(ours.location("acme"))
        theirs_back = sandbox.allow(theirs.location("acme"))
        if "cookies" in swapped:
            ours.cookies, theirs.cookies = theirs.cookies, ours.cookies
        if "path" in swapped:
            ours_back, theirs_back = theirs_back, ours_back

        answers = [ours.get(ours_back), theirs.get(theirs_back)]
        calls = fake.ledger.calls("token") + sandbox.ledger.calls("token")

    assert [answer.status for answer in answers] == [400, 400]
    assert calls == 0
