"""T26, T31: codes that a page's script hands over, and parameters that would change a flow."""

from __future__ import annotations

import json
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Answer, Browser, Site

ORIGINS: dict[str, dict[str, str | None]] = {
    "null": {"Origin": "null"},
    "missing": {"Origin": None},
    "another host": {"Origin": "https://app.test"},
    "our name in front": {"Origin": "{origin}.evil"},
    "our name behind": {"Origin": "http://evil-{host}"},
    "our name as user": {"Origin": "{origin}@evil.test"},
    "another port": {"Origin": "http://localhost:1"},
    "no port": {"Origin": "http://localhost"},
    "another scheme": {"Origin": "https://{host}"},
    "capitals": {"Origin": "HTTP://{host}"},
    "a path": {"Origin": "{origin}/"},
    "two": {"Origin": "{origin}, {origin}"},
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Origin": "{origin}"},
    "same-site": {"Sec-Fetch-Site": "same-site", "Origin": "{origin}"},
    "none": {"Sec-Fetch-Site": "none", "Origin": "{origin}"},
    "odd": {"Sec-Fetch-Site": "Same-Origin", "Origin": "{origin}"},
}


def _sent(headers: dict[str, str | None], *, site: Site) -> dict[str, str]:
    host = urlsplit(site.origin).netloc
    given = {"Accept": "application/json", **headers}
    return {
        name: value.format(origin=site.origin, host=host)
        for name, value in given.items()
        if value is not None
    }


def _embedded(fake: FakeFinch, site: Site, browser: Browser) -> dict[str, str]:
    site.opening["flow"] = "embedded"
    begun = browser.begin("acme").json
    return fake.allow_embedded(begun["session_id"], state=begun["state"])


def _handed_over(browser: Browser, fields: dict[str, str], *, form: str, **headers: str) -> Answer:
    if form == "query":
        return browser.request("GET", f"{CALLBACK}?{urlencode(fields)}", headers=headers)
    kinds = {"json": "application/json", "form": "application/x-www-form-urlencoded"}
    body = json.dumps(fields) if form == "json" else urlencode(fields)
    return browser.request(
        "POST", CALLBACK, headers={**headers, "Content-Type": kinds[form]}, body=body.encode()
    )


@pytest.mark.parametrize("form", ["query", "json", "form"])
def test_t26_a_code_handed_over_by_another_origin_makes_no_call(
    fake: FakeFinch, site: Site, browser: Browser, form: str
) -> None:
    fields = _embedded(fake, site, browser)

    answers = {
        name: _handed_over(browser, fields, form=form, **_sent(headers, site=site))
        for name, headers in ORIGINS.items()
    }

    assert {name: each.status for name, each in answers.items()} == dict.fromkeys(ORIGINS, 403)
    assert fake.ledger.calls("token") == 0
    assert not [name for each in answers.values() for name in each.headers if _is_cors(name)]


@pytest.mark.parametrize("form", ["query", "json", "form"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "{origin}"}, {"Sec-Fetch-Site": "same-origin"}], ids=str
)
def test_t26_a_code_handed_over_by_our_own_page_is_exchanged(
    fake: FakeFinch, site: Site, browser: Browser, headers: dict[str, str | None], form: str
) -> None:
    fields = _embedded(fake, site, browser)

    answer = _handed_over(browser, fields, form=form, **_sent(headers, site=site))

    assert answer.status == 200
    assert len(site.finch.connections.for_customer("acme")) == 1


@pytest.mark.parametrize("form", ["query", "json", "form"])
@pytest.mark.parametrize("state", ["missing", "wrong", "of another browser"])
def test_t26_a_forged_message_without_this_browsers_state_makes_no_call(
    fake: FakeFinch, site: Site, browser: Browser, state: str, form: str
) -> None:
    fields = _embedded(fake, site, browser)
    if state == "missing":
        del fields["state"]
    elif state == "wrong":
        fields["state"] = secrets.token_urlsafe(16)
    else:
        fields["state"] = _embedded(fake, site, Browser(site))["state"]

    answer = _handed_over(browser, fields, form=form, **_sent({"Origin": "{origin}"}, site=site))

    assert answer.status == 400
    assert fake.ledger.calls("token") == 0


def test_t26_a_preflight_of_any_origin_is_granted_nothing(browser: Browser) -> None:
    asked = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}

    answer = browser.request("OPTIONS", CALLBACK, headers=asked)

    assert answer.status == 204
    assert not [name for name in answer.headers if _is_cors(name)]


def _is_cors(header: str) -> bool:
    return header.lower().startswith("access-control")


FLAGS = [
    "embedded=true",
    "embedded=false",
    "flow=embedded",
    "flow=redirect",
    "redirect_uri=https%3A%2F%2Fevil.test%2F",
    "redirect_uri=",
    "kind=embedded",
    "client_id=client-evil",
    "customer_id=mallory",
    "sandbox=finch",
    "api_url=https%3A%2F%2Fevil.test",
    "return_to=https%3A%2F%2Fevil.test",
]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("flow", ["redirect", "embedded"])
def test_t31_no_flag_of_a_request_changes_what_finch_is_sent(
    fake: FakeFinch, site: Site, browser: Browser, flow: str, flag: str
) -> None:
    if flow == "embedded":
        query = urlencode(_embedded(fake, site, browser))
    else:
        query = urlsplit(fake.allow(browser.location("acme"))).query
    own = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}

    answer = browser.request("GET", f"{CALLBACK}?{query}&{flag}", headers=own)

    assert answer.status == 200 or answer.status == 303
    [sent] = [each for each in fake.ledger.requests if each.endpoint == "token"]
    expected = {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "code": parse_qs(query)["code"][0],
    }
    if flow == "redirect":
        expected["redirect_uri"] = site.origin + CALLBACK
    assert sent.body == json.dumps(expected).encode()
