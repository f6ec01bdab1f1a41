"""T47: what is done with an invitation that is not what it was made for."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import pytest

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.crypto.vault import pack
from finch_middleware.testing import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.fuzz.seeds import seeded
from tests.site import CALLBACK, KEY, NAVIGATION
from tests.threats.desk import ORIGIN, begun, component, returned
from tests.threats.sizes import LINKS
from tests.threats.wsgi import Answered, call, environ_of

INVITE = "/invitation"
OTHER = new_key("k2")
CLOCK = Clock()


def inviting(fake: FakeFinch, **options: Any) -> FinchConnect:
    return component(fake, **{"invite_path": INVITE, "clock": CLOCK, **options})


def link_of(finch: FinchConnect, **changes: Any) -> str:
    """What the link holds."""
    given = {"customer_id": "acme", "customer_name": "Acme Inc.", **changes}
    return finch.invitation_url(**given).partition("?invitation=")[2]


def ask(
    finch: FinchConnect,
    sealed: str,
    *,
    method: str = "POST",
    site: str = "same-origin",
    **more: str,
) -> Answered:
    headers: dict[str, str] = {**NAVIGATION, "Sec-Fetch-Site": site, **more}
    environ = environ_of(INVITE, method=method, query=f"invitation={sealed}", headers=headers)
    return call(FinchMiddleware(lambda *_: [b""], finch), environ)


def both(finch: FinchConnect, sealed: str) -> set[int]:
    return {ask(finch, sealed, method=method).status for method in ("GET", "POST")}


MADE_BY: dict[str, dict[str, Any]] = {
    "another client_id": {"client_id": "another"},
    "a key that was rotated out": {"key": OTHER},
    "another origin": {"redirect_uri": f"http://localhost:8443{CALLBACK}"},
    "wider options: a product": {"unknown_products": True, "products": ["new"]},
    "wider options: a place": {"spa_origins": ["https://spa.test"]},
}


@pytest.mark.parametrize("name", MADE_BY)
def test_t47_a_link_works_only_where_it_was_made_for(fake: FakeFinch, name: str) -> None:
    maker = inviting(fake, **MADE_BY[name])
    asked: dict[str, Any] = {"products": ["new"]} if "product" in name else {}
    asked |= {"return_to": "https://spa.test/x"} if "place" in name else {}
    sealed = link_of(maker, **asked)

    assert ask(maker, sealed, method="GET").status == 200
    assert both(inviting(fake), sealed) == {400}
    assert fake.ledger.requests == ()


def test_t47_a_link_outlives_an_accepted_key_and_another_callback(fake: FakeFinch) -> None:
    sealed = link_of(inviting(fake))
    later = inviting(
        fake, key=OTHER, accepted_keys=[KEY], redirect_uri=f"{ORIGIN}/elsewhere/callback"
    )

    answer = ask(later, sealed)

    assert answer.status == 303
    [asked] = [r.body for r in fake.ledger.requests if r.endpoint == "sessions"]
    assert b"/elsewhere/callback" in asked


def test_t47_no_altered_link_opens(fake: FakeFinch) -> None:
    finch, draw = inviting(fake), seeded()
    sealed = link_of(finch)
    body = sealed.rpartition(".")[2]
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    altered = ["", ".", "fm1", "fm1.k1.", sealed[:-1], sealed + "A", sealed + "%00", sealed * 9]
    altered += [sealed.replace(body, body[::-1]), sealed.upper(), f"{sealed}&invitation={sealed}"]
    for _ in range(LINKS()):
        at, bit = draw.randrange(len(raw)), 1 << draw.randrange(8)
        flipped = bytearray(raw)
        flipped[at] ^= bit
        text = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
        altered.append(sealed.replace(body, text))

    assert {status for each in altered for status in both(finch, each)} == {400}
    assert fake.ledger.requests == ()


def test_t47_what_was_sealed_for_another_purpose_or_version_is_no_link(fake: FakeFinch) -> None:
    finch = inviting(fake)
    ticket = begun(finch, fake).value
    others = [
        finch.vault.seal(text, purpose="invitation", context=pack(ORIGIN))
        for text in ("[]", "[1,2,true,{}]", '[1,2,true,{"customer_id":"a","new":1}]', "{", "5")
    ]

    assert [both(finch, each) for each in (ticket, *others)] == [{400}] * 6
    assert (
        returned(finch_app(finch), "code=c", cookie=f"finch-AAAAAAAA={link_of(finch)}").status
        == 400
    )


def finch_app(finch: FinchConnect) -> FinchMiddleware:
    return FinchMiddleware(lambda *_: [b""], finch)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("early", [{}, {"Sec-Purpose": "prefetch"}, {"Purpose": "preview"}])
def test_t47_a_preview_of_a_link_spends_nothing(
    fake: FakeFinch, method: str, early: dict[str, str]
) -> None:
    finch = inviting(fake)
    sealed = link_of(finch)

    previews = [ask(finch, sealed, method=method, site="none", **early) for _ in range(20)]
    pressed = ask(finch, sealed)

    assert {each.status for each in previews} == {200}
    assert not [each for each in previews if each.all("Set-Cookie")]
    assert (pressed.status, fake.ledger.calls("sessions")) == (303, 1)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_t47_another_sites_page_cannot_press_the_button(fake: FakeFinch, site: str) -> None:
    finch = inviting(fake)

    answers = [
        ask(finch, link_of(finch), site=site, Origin=origin)
        for origin in ("https://evil.test", "null", f"{ORIGIN}.evil.test")
    ]

    assert {each.status for each in answers} == {403}
    assert fake.ledger.requests == ()


def test_t47_no_answer_repeats_the_link_or_lets_a_referer_hold_it(fake: FakeFinch) -> None:
    finch = inviting(fake)
    sealed = link_of(finch)
    last = ask(inviting(fake, key=OTHER), sealed)

    answers = [ask(finch, sealed, method=method) for method in ("GET", "HEAD", "PUT", "POST")]

    for each in (*answers, last):
        assert sealed.encode() not in each.whole
        [policy] = each.all("Referrer-Policy")
        assert policy in ("no-referrer", "strict-origin")
        assert each.all("Cache-Control") == ["no-store"]


def test_t47_a_link_connects_its_own_customer_and_no_other(fake: FakeFinch) -> None:
    finch = inviting(fake, customer_of=lambda request: None)
    answer = ask(finch, link_of(finch))
    cookie = answer.all("Set-Cookie")[0].partition(";")[0]
    fake_session = fake.allow(answer.location)
    fake.script("token", Behaviour.alter(customer_id="globex"))

    ended = returned(finch_app(finch), urlsplit(fake_session).query, cookie=cookie)

    assert ended.status == 403
    assert finch.connections.for_customer("acme") == []
    assert finch.connections.for_customer("globex") == []


def test_t47_an_invited_flow_of_another_host_needs_a_login_as_every_other(fake: FakeFinch) -> None:
    finch = inviting(fake, customer_of=lambda request: None)
    answer = ask(finch, link_of(finch))
    cookie = answer.all("Set-Cookie")[0].partition(";")[0]
    query = urlsplit(fake.allow(answer.location)).query

    # Servers join two Cookie fields by a comma, so another host can plant one behind a comma.
    planted = returned(finch_app(finch), query, cookie=f"theirs=x,{cookie}")
    calls = fake.ledger.calls("token")
    own = returned(finch_app(finch), query, cookie=cookie)

    assert (planted.status, calls, own.status) == (400, 0, 303)


def test_t47_a_flow_without_an_invitation_needs_the_login_still(fake: FakeFinch) -> None:
    finch = inviting(fake, customer_of=lambda request: None)
    held = begun(finch, fake)

    answer = returned(finch_app(finch), f"code=c&state={held.state}", cookie=held.cookie)

    assert answer.status == 400
    assert b"not signed in" in answer.body
    assert fake.ledger.calls("token") == 0
