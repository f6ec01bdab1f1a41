"""T9, T11 to T13: hostile cookies, headers, error texts and parameters."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from wsgiref.validate import validator

import pytest

from finch_middleware import ConnectSession, FinchError, FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, NAVIGATION, SAME_ORIGIN_FETCH
from tests.threats.desk import begun, component, returned
from tests.threats.sizes import COOKIES, ERRORS
from tests.threats.wsgi import Answered, call, environ_of


def _application(environ: dict[str, object], start_response: object) -> list[bytes]:
    raise AssertionError("not the application's")


def _neighbours(draw: random.Random, own_name: str) -> Iterator[str]:
    """Cookies that others have set: broken, doubled, tossed over ours, or just long."""
    odd = ['"', '"unclosed', "a b", "\\", "=", "==", "\x80\xff", "é", "{}", "%00", "a,b", "[", "<"]
    while True:
        match draw.randrange(8):
            case 0:
                yield draw.choice(odd)
            case 1:
                yield f"{secrets.token_hex(3)}={draw.choice(odd)}"
            case 2:
                yield f"{own_name}={draw.choice(odd)}"
            case 3:
                yield f"{own_name}=fm1.k1.{secrets.token_urlsafe(draw.choice([20, 200]))}"
            case 4:
                yield f"finch-{secrets.token_urlsafe(6)}=fm1.k1.{secrets.token_urlsafe(180)}"
            case 5:
                yield f"session={'x' * draw.choice([0, 1, 4000, 40_000])}"
            case 6:
                yield draw.choice(["", " ", "=", "$Version=1", "$Path=/", "finch-=", "finch-"])
            case _:
                yield f"{draw.choice(odd)}={draw.choice(odd)}"


def _header(draw: random.Random, own: str) -> str:
    source = _neighbours(draw, own.partition("=")[0])
    crowd = [next(source) for _ in range(draw.choice([0, 1, 3, 10, 60]))]
    crowd.insert(draw.randint(0, len(crowd)), own)
    joined = draw.choice(["; ", ";", " ;  ", ";\t"]).join(crowd)
    if len(joined) > 64 * 1024:
        return f"{own}; {joined}"[: 64 * 1024]
    return joined


def test_t09_the_flows_cookie_is_found_among_any_neighbours(fake: FakeFinch) -> None:
    finch = component(fake)
    app = FinchMiddleware(_application, finch)
    draw = random.Random(9)

    for _ in range(COOKIES()):
        held = begun(finch, fake)
        answer = returned(app, f"state={held.state}", cookie=_header(draw, held.cookie))

        assert (answer.status, answer.location.partition("&")[0]) == (303, "/?finch=declined")
    assert fake.ledger.calls("token") == 0


def test_t09_a_tossed_cookie_alone_is_no_ticket(fake: FakeFinch) -> None:
    finch = component(fake)
    app = FinchMiddleware(_application, finch)
    held = begun(finch, fake)
    draw = random.Random(10)

    for _ in range(COOKIES()):
        at = draw.randrange(len(held.value))
        forged = "A" if held.value[at] != "A" else "B"
        tossed = f"{held.name}={held.value[:at]}{forged}{held.value[at + 1 :]}"
        answer = returned(app, f"state={held.state}", cookie=tossed)

        assert answer.status == 400
    assert fake.ledger.calls("token") == 0


_HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}}",
    "${7*7}",
    "';DROP TABLE finch_attempts;--",
    "\u2028\u202e",
    "%0d%0aSet-Cookie: a=b",
    "\r\nX-Injected: 1",
    "&lt;b&gt;",
    "x" * 900,
    "\U0001f4a9",
]


def _said(draw: random.Random) -> tuple[str, str]:
    """An error text, and the part of it that no answer may hold."""
    marker = secrets.token_hex(5)
    return marker, f"{draw.choice(_HOSTILE)}{marker}{draw.choice(_HOSTILE)}"


def test_t12_no_error_text_is_ever_reflected(fake: FakeFinch) -> None:
    finch = component(fake)
    app = validator(FinchMiddleware(_application, finch))
    held = begun(finch, fake)
    draw = random.Random(12)

    for number in range(ERRORS()):
        marker, text = _said(draw)
        error = draw.choice(["access_denied", quote(text, safe="")])
        state = held.state if number % 3 else secrets.token_urlsafe(16)
        query = f"error={error}&error_description={quote(text, safe='')}&state={state}"
        headers = draw.choice([NAVIGATION, SAME_ORIGIN_FETCH])
        environ = environ_of(CALLBACK, query=query, headers={**headers, "Cookie": held.cookie})
        answer = call(app, environ)

        assert answer.status in (303, 200, 400)
        _check_unreflected(answer, marker)
    assert fake.ledger.calls("token") == 0


def _check_unreflected(answer: Answered, marker: str) -> None:
    assert marker.encode() not in answer.whole
    assert b"<script" not in answer.body
    assert "default-src 'none'" in answer.all("Content-Security-Policy")[0]


_ODD = ["\r\nX-Injected: 1", "\x00", "\xff", "\u2028", "%0d%0a", "\t", "\x7f", "é", " "]


def _odd_headers(draw: random.Random) -> dict[str, str]:
    return {
        name: "".join(draw.choices([*_ODD, "a", "b"], k=4)).encode().decode("latin-1")
        for name in ("Referer", "Origin", "Accept", "X-Forwarded-Host", "User-Agent", "Host")
    }


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        assert re.fullmatch(r"[\x20-\x7e]*", name + value)


def test_t11_no_header_ever_holds_a_control_or_an_8_bit_character(fake: FakeFinch) -> None:
    finch = component(fake, brand="Ünïcøde & <Co>\r\nX: y")
    app = validator(FinchMiddleware(_application, finch))
    draw = random.Random(11)

    for _ in range(300):
        held = begun(finch, fake, return_to=draw.choice(["/é", "/a?b=ü", "/%C3%A9# "]))
        query = f"state={held.state}&error={quote(draw.choice(_ODD))}"
        headers = {**_odd_headers(draw), "Cookie": held.cookie}
        answer = call(app, environ_of(CALLBACK, query=query, headers=headers))

        assert answer.status in (303, 400)
        _check_headers(answer.headers)


def test_t11_no_header_of_a_begun_flow_does_either(fake: FakeFinch) -> None:
    finch = component(fake)
    draw = random.Random(12)

    for number in range(300):
        customer_id, tail = "acmé-" + draw.choice("äß日"), draw.choice(["", "%0d%0a", "%C3%A9"])
        session = ConnectSession("s", f"{fake.connect_origin}/authorize?session=s{tail}")
        environ = environ_of("/connect", headers=_odd_headers(draw), method="POST")
        answer = finch.begin(
            customer_id=customer_id,
            customer_name="Ünïcøde & <Co>\u2028",
            flow="embedded" if number % 3 == 0 else "redirect",
            session=session,
            request=environ,
            return_to=draw.choice(["/é", "/a?b=ü", "/%C3%A9# "]),
        )

        assert answer.status_code in (200, 303)
        _check_headers(answer.headers.to_wsgi_list())


@pytest.mark.parametrize("odd", ["\r\nX-Injected: 1", "\n", "\x00", "\x7f"])
@pytest.mark.parametrize("argument", ["customer_id", "return_to", "session"])
def test_t11_a_control_among_what_begins_a_flow_is_refused(
    fake: FakeFinch, argument: str, odd: str
) -> None:
    finch = component(fake)
    url = f"{fake.connect_origin}/authorize?session=s"
    given: dict[str, Any] = {
        "customer_id": "acme",
        "customer_name": "Acme",
        "return_to": "/",
        "session": ConnectSession("s", url),
    }
    given[argument] = ConnectSession("s", url + odd) if argument == "session" else f"/a{odd}"

    with pytest.raises(FinchError):
        finch.begin(**given)


#: `tests/test_params.py` has every form of each.
CONTRADICTORY = [
    "code={code}&code={code}&state={state}",
    "code={code}&c%6fde={code}&state={state}",
    "code={code}&state={state}&state=",
    "code={code}&error=access_denied&state={state}",
    "code=%00{code}&state={state}",
    "code=%ff&state={state}",
    "code={code}&state={state}&x=%zz",
    "code={code};state={state}",
    "code={long}&state={state}",
    "code={code}&state={state}&pad={pad}",
    "code={code}&state={state}&{many}",
    "code={code}&state={state}x",
    "code={code}&state[]={state}",
    "code={code} &state={state}",
]


def _filled(template: str, *, code: str, state: str) -> str:
    return template.format(
        code=code, state=state, long="a" * 513, pad="p" * 4096, many="&".join(["a=b"] * 20)
    )


@pytest.mark.parametrize("template", CONTRADICTORY)
def test_t13_a_doubled_or_contradictory_parameter_is_refused_without_a_call(
    fake: FakeFinch, template: str
) -> None:
    finch = component(fake, require_state=True)
    app = FinchMiddleware(_application, finch)
    held = begun(finch, fake)
    code = fake.issue_code(customer_id="acme", redirect_uri="http://localhost/finch/callback")

    answer = returned(app, _filled(template, code=code, state=held.state), cookie=held.cookie)
    calls = fake.ledger.calls("token")
    honest = returned(app, f"code={code}&state={held.state}", cookie=held.cookie)

    assert (answer.status, calls) == (400, 0)
    assert honest.status == 303


@pytest.mark.parametrize(
    "body",
    [
        '{{"code": "{code}", "c\\u006fde": "x", "state": "{state}"}}',
        '{{"code": "{code}", "state": "{state}", "state": null}}',
        '{{"code": ["{code}"], "state": "{state}"}}',
        '{{"code": "{code}", "state": "\\ud800{state}"}}',
    ],
)
def test_t13_a_doubled_or_odd_member_of_json_is_refused_without_a_call(
    fake: FakeFinch, body: str
) -> None:
    finch = component(fake)
    app = FinchMiddleware(_application, finch)
    held = begun(finch, fake, flow="embedded")
    code = fake.issue_code(customer_id="acme")
    sent = body.format(code=code, state=held.state)
    headers = {**SAME_ORIGIN_FETCH, "Content-Type": "application/json", "Cookie": held.cookie}

    answer = call(app, environ_of(CALLBACK, method="POST", headers=headers, body=sent.encode()))

    assert answer.status == 400
    assert fake.ledger.calls("token") == 0
