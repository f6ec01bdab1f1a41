"""T14 to T16: forged hosts, look-alike paths, and what an address or a page reveals."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from werkzeug.wrappers import Response

from finch_middleware import Customer, FinchMiddleware
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.sample_outcomes import Page
from tests.site import CALLBACK, NAVIGATION, Answer, Browser, MakeSite, Site
from tests.story.ways import another, while_finch_is_asked
from tests.threats.desk import component
from tests.threats.wsgi import call, environ_of

_FORGED_VALUES = ["evil.test", "evil.test:80, localhost", "https://evil.test/", '"evil.test"', ""]
_FORGED_NAMES = [
    "Host",
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Original-Host",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-For",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Script-Name",
    "Forwarded",
    "Referer",
    "Origin",
    "Content-Location",
    "Base-Url",
    "X-WAP-Profile",
]


def _bare(answer: Answer) -> str:
    """Where an answer leads, its random reference cut off."""
    return answer.location.partition("&finch_ref=")[0]


def test_t14_no_forged_host_changes_what_finch_is_sent_or_where_a_person_goes(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    forged = [{name: value} for name in _FORGED_NAMES for value in _FORGED_VALUES[:2]]
    forged += [dict.fromkeys(_FORGED_NAMES[1:], value) for value in _FORGED_VALUES]
    seen, asked = set(), set()

    for number, headers in enumerate([{}, *forged]):
        begun = browser.request("POST", f"/connect?customer=customer-{number}", headers=headers)
        [opened] = [each for each in fake.ledger.requests if each.endpoint == "sessions"][number:]
        asked.add(json.loads(opened.body)["redirect_uri"])
        callback = fake.allow(begun.location)
        answer = browser.get(callback, **headers)
        sent = [each for each in fake.ledger.requests if each.endpoint == "token"][-1]
        [code] = parse_qs(urlsplit(callback).query)["code"]
        seen.add((sent.body.replace(code.encode(), b"CODE"), answer.status, _bare(answer)))

    assert len(forged) >= 40
    assert asked == {f"{site.origin}{CALLBACK}"}
    [(body, status, location)] = seen
    assert f'"redirect_uri": "{site.origin}{CALLBACK}"'.encode() in body
    assert (status, location) == (303, "/settings?finch=connected")


_VARIANTS = [
    "{p}/", "/{p}", "{p};x", "{p}%2f", "/x/..{p}", "{p}?", "{p}%3Fcode=1", "{p}#", "{P}", "{p}.",
    "{p}%00", "{p}\x00", "{p} ", " {p}", "{p}\t", "{p}\n", "{p}\r\n", "{p}//", "//host{p}", "{p}\\",
    "{p}/.", "{p}/..", "{p}/../callback", "/.{p}", "{q}", "{p}%20", "{p}.html", "{p}~", "{p}*",
    "http://localhost{p}", "{p}&code=1", "{p}=", "{p}:", "{p},", "{p}é", "{w}", "", "/", "/finch",
    "/callback", "finch/callback", "/finch//callback", "/finch/./callback", "/finch/callbac",
    "/finch/callback1", "/finch\\callback", "\\finch\\callback", "/finch%2fcallback",
]  # fmt: skip


def _paths(own: str) -> list[str]:
    """Some two hundred spellings of *own* that are other paths."""
    named = {
        "p": own, "P": own.upper(), "q": own.title(), "w": own.replace("c", "\xd1\x81"),
    }  # fmt: skip
    spelled = [variant.format(**named) for variant in _VARIANTS]
    for at in range(1, len(own)):
        spelled.append(own[:at] + own[at].swapcase() + own[at + 1 :])
        spelled.append(f"{own[:at]}%{ord(own[at]):02x}{own[at + 1 :]}")
        spelled.append(own[:at] + own[at] + own[at:])
        spelled += [own[:at] + odd + own[at:] for odd in "/.;:,=&?#\\\x00\xad\t %~"]
    return [path for path in dict.fromkeys(spelled) if path != own]


@pytest.mark.parametrize("mounted", ["", "/a", "/\xc3\xa9", "/a/b"])
@pytest.mark.parametrize("own", ["/finch/callback", "/\xc3\xa9/finch/callback"])
def test_t15_of_two_hundred_spellings_only_the_configured_path_is_ours(
    fake: FakeFinch, mounted: str, own: str
) -> None:
    redirect_uri = f"http://localhost{quote((mounted + own).encode('latin-1'))}"
    finch = component(fake, redirect_uri=redirect_uri, callback_path=own.encode("latin-1").decode())
    forwarded: list[str] = []

    def application(environ: dict[str, str], start_response: Callable[..., object]) -> list[bytes]:
        forwarded.append(environ["PATH_INFO"])
        start_response("299 the application", [])
        return [b""]

    app = FinchMiddleware(application, finch)
    others = _paths(own)
    answers = [call(app, environ_of(path, script_name=mounted)) for path in others]
    ours = call(app, environ_of(own, script_name=mounted))

    assert len(others) >= 200
    assert {answer.status for answer in answers} == {299}
    assert forwarded == others
    assert ours.status == 400


def test_t15_spellings_sent_over_the_wire_reach_the_application(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    paths = ["/finch/callback/", "/finch/CALLBACK", "/finch/callback;x", "/finch/callback%2F"]
    paths += ["/x/../finch/callback", "/finch//callback", "/finch/callback%3Fcode=1"]

    answers = [browser.get(path) for path in paths]

    assert [answer.text for answer in answers] == ["the application"] * len(paths)


def _endings(fake: FakeFinch, site: Site) -> dict[str, Answer]:
    """A response of every kind over HTTP."""
    answers: dict[str, Answer] = {}
    for name, behaviour in {
        "connected": Behaviour(),
        "another customer": Behaviour.alter(customer_id="other"),
        "client rejected": Behaviour.error(401, name="invalid_client_error"),
        "throttled": Behaviour.error(429),
        "garbage": Behaviour.garbage("html"),
    }.items():
        browser = Browser(site)
        fake.script("token", behaviour)
        callback = fake.allow(browser.location(f"customer {name}".replace(" ", "-")))
        answers[name] = browser.get(callback)
        answers[f"{name}, reloaded"] = browser.get(callback)
    browser = Browser(site)
    answers["declined"] = browser.get(fake.deny(browser.location("acme")))
    answers["nothing"] = Browser(site).get(CALLBACK)
    answers["to a script"] = Browser(site).fetch({"code": "c"})
    for method in ("HEAD", "OPTIONS", "PUT", "POST"):
        answers[method] = browser.request(method, CALLBACK)
    callback = fake.allow(browser.location("acme"))
    with while_finch_is_asked(fake, browser, callback):
        answers["at work"] = another(browser).get(callback)
    return answers


_BEGIN = "/connect-payroll"


@pytest.mark.usefixtures("short_wait")
def test_t16_no_answer_is_kept_refers_or_loads_anything(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    acme = Customer(id="acme", name="Acme Inc.")
    beginning = Browser(make_site(begin_path=_BEGIN, customer_of=lambda request: acme))

    answers = _endings(fake, make_site(waiting_duplicates=0))
    answers["begin"] = beginning.request("GET", _BEGIN, headers=NAVIGATION)
    answers["begin, from elsewhere"] = beginning.request("POST", _BEGIN, headers=NAVIGATION)

    for name, answer in answers.items():
        assert answer.headers["Cache-Control"] == "no-store", name
        # With no-referrer a browser would send a button's form without its origin; the address of
        # a begin page holds neither code nor state.
        begins = {"same-origin", "strict-origin"} if name.startswith("begin") else set()
        assert answer.headers["Referrer-Policy"] in (begins or {"no-referrer"}), name
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], name
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name
        if answer.body and answer.headers.get_content_type() == "text/html":
            assert _loaded(answer) == [], name
    statuses = {answer.status for answer in answers.values()}
    assert statuses >= {200, 202, 204, 303, 400, 403, 500, 502}


def _loaded(answer: Answer) -> list[str]:
    """The addresses in a page that lead to another site."""
    page = Page(Response(answer.body))
    given = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("href", "src", "action", "srcset", "data", "poster", "formaction")
    ]
    assert "url(" not in answer.text
    assert "@import" not in answer.text
    return [each for each in given if urlsplit(each).netloc or urlsplit(each).scheme]


def test_t16_after_success_or_a_decline_the_address_holds_no_code_and_no_state(
    fake: FakeFinch, browser: Browser
) -> None:
    connected = fake.allow(browser.location("acme"))
    declined = fake.deny(browser.location("globex"))

    answers = {callback: browser.get(callback) for callback in (connected, declined)}

    for callback, answer in answers.items():
        assert answer.status == 303
        given = parse_qs(urlsplit(callback).query)
        for values in given.values():
            assert values[0] == "access_denied" or values[0] not in answer.location
