"""T2 and T26, where the library itself begins flows, and where other origins may take part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finch_middleware import Customer
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, NAVIGATION, Browser, MakeSite, Site

_BEGIN = "/finch/connect"
_SPA = "https://spa.test"


@pytest.fixture
def open_site(make_site: MakeSite) -> Callable[..., Site]:
    """Opens a site with a begin path, for whoever asks."""

    def make(**options: Any) -> Site:
        customer = Customer(id="acme", name="Acme Inc.")
        return make_site(begin_path=_BEGIN, customer_of=lambda request: customer, **options)

    return make


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_t02_looking_at_the_begin_path_begins_nothing(
    fake: FakeFinch, open_site: MakeSite, method: str
) -> None:
    browser = Browser(open_site())

    answer = browser.request(method, f"{_BEGIN}?customer_id=acme", headers=NAVIGATION)

    assert (answer.status, answer.location) == (200, "")
    assert answer.headers.get_all("Set-Cookie") is None
    assert fake.ledger.calls("sessions") == 0
    assert b"<script" not in answer.body


FOREIGN: dict[str, dict[str, str]] = {
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"},
    "same-site": {"Sec-Fetch-Site": "same-site", "Origin": "https://other.spa.test"},
    "null": {"Origin": "null"},
    "nothing at all": {},
    "only a referer": {"Referer": "http://localhost/"},
    "behind the spa's name": {"Origin": f"{_SPA}.evil"},
    "in front of the spa's name": {"Origin": "https://evil-spa.test"},
    "another scheme": {"Origin": "http://spa.test"},
    "a port": {"Origin": f"{_SPA}:8443"},
    "two": {"Origin": f"{_SPA}, {_SPA}"},
    "a path": {"Origin": f"{_SPA}/"},
}


def test_t02_a_post_of_another_origin_begins_nothing(fake: FakeFinch, open_site: MakeSite) -> None:
    browser = Browser(open_site(spa_origins=[_SPA]))

    answers = {
        name: browser.request("POST", _BEGIN, headers=headers) for name, headers in FOREIGN.items()
    }

    assert {name: each.status for name, each in answers.items()} == dict.fromkeys(FOREIGN, 403)
    assert fake.ledger.calls("sessions") == 0
    assert browser.cookies == {}


def test_t26_no_origin_but_the_named_one_may_read_or_hand_over(
    fake: FakeFinch, open_site: MakeSite
) -> None:
    site = open_site(spa_origins=[_SPA])
    site.opening["flow"] = "embedded"
    browser = Browser(site)
    begun = browser.embedded("acme")
    fields = fake.allow_embedded(begun["session_id"], state=begun["state"])
    foreign = {name: each for name, each in FOREIGN.items() if "Origin" in each}

    refused = [
        browser.fetch(fields, form=False, **{"Sec-Fetch-Site": "cross-site", **each})
        for each in foreign.values()
    ]
    calls = fake.ledger.calls("token")
    taken = browser.fetch(fields, form=False, **{"Sec-Fetch-Site": "cross-site", "Origin": _SPA})

    assert {answer.status for answer in refused} == {403}
    assert calls == 0
    assert not [answer for answer in refused if "Access-Control-Allow-Origin" in answer.headers]
    assert taken.status == 200
    assert taken.headers["Access-Control-Allow-Origin"] == _SPA


def test_t26_a_preflight_is_granted_to_the_named_origin_alone(open_site: MakeSite) -> None:
    browser = Browser(open_site(spa_origins=[_SPA]))

    named = browser.request("OPTIONS", CALLBACK, headers={"Origin": _SPA})
    others = [browser.request("OPTIONS", CALLBACK, headers=each) for each in FOREIGN.values()]

    assert named.headers["Access-Control-Allow-Origin"] == _SPA
    assert not [each for each in others if "Access-Control-Allow-Origin" in each.headers]
