"""Cookies and security headers: what every response carries, and what none may hold."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from finch_middleware.finch.responses import ConnectSession
from finch_middleware.outcomes import (
    Invalid,
    Outcome,
    Response,
    SetCookie,
)
from finch_middleware.secret import Secret
from finch_middleware.web.pages import with_cookies
from finch_middleware.web.request import CallbackRequest
from tests.sample_outcomes import (
    COMMON,
    COOKIE,
    EVERY,
    UNREACHABLE,
    UNTRUSTED,
    browser,
    make_pages,
    named,
    script,
)

SESSION = ConnectSession(
    session_id="5e55", connect_url="https://connect.example.com/authorize?session=5e55"
)
HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def served(response: Response, *, method: str = "GET") -> tuple[str, list[tuple[str, str]], bytes]:
    """What a server sees of it, with wsgiref's validator between."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    body: Any = validator(response)(environ, start_response)
    with closing(body):
        content = b"".join(body)
    return started[0][0], started[0][1], content


def guarded(response: Response, *, method: str = "GET") -> dict[str, str]:
    """Its headers, once those that every response needs were found in them."""
    status, headers, _ = served(response, method=method)
    assert status == response.status
    assert all(HEADER_VALUE.fullmatch(part) for header in headers for part in header)
    sent = dict(headers)
    assert sent["Cache-Control"] == "no-store"
    assert sent["Referrer-Policy"] == "no-referrer"
    assert sent["X-Content-Type-Options"] == "nosniff"
    assert sent["X-Frame-Options"] == "DENY"
    assert re.fullmatch(
        r"default-src 'none'; style-src '(none|nonce-[\w-]{22})'; base-uri 'none'; "
        r"form-action 'none'; frame-ancestors 'none'",
        sent["Content-Security-Policy"],
    )
    return sent


class TestOpened:
    def opened(self, *, location: str | None) -> Response:
        return make_pages().open_connect(
            SESSION, location=location, state="5tate", cookies=[COOKIE]
        )

    def test_redirect_flow_goes_to_finch_connect(self) -> None:
        response = self.opened(location=SESSION.connect_url)

        assert response.status_code == 303
        assert response.headers["Location"] == SESSION.connect_url
        assert response.headers.getlist("Set-Cookie") != []

    @pytest.mark.parametrize("location", ["https://a.test/\r\nX: y", "https://é.test", "", "a b"])
    def test_an_address_that_no_header_may_hold_is_not_followed(self, location: str) -> None:
        response = self.opened(location=location)

        assert response.headers["Location"] == "/"


class TestCookies:
    @pytest.mark.parametrize(
        ("cookie", "header"),
        [
            (COOKIE, "__Host-finch-1=sealed; Max-Age=600; Secure; HttpOnly; Path=/; SameSite=Lax"),
            (
                SetCookie(name="finch-1", value=Secret("v"), max_age=60, secure=False),
                "finch-1=v; Max-Age=60; HttpOnly; Path=/; SameSite=Lax",
            ),
            (
                SetCookie(name="__Host-finch-2", value=None, max_age=600, secure=True),
                "__Host-finch-2=; Max-Age=0; Secure; HttpOnly; Path=/; SameSite=Lax",
            ),
        ],
        ids=["set for this host alone", "over loopback http", "removed"],
    )
    def test_are_out_of_reach_of_scripts(self, cookie: SetCookie, header: str) -> None:
        response = with_cookies(Response(), [cookie])

        assert response.headers.getlist("Set-Cookie") == [header]

    def test_are_no_other_visitors_where_an_application_shares_one_response(self) -> None:
        shared = Response(iter([b"one, ", b"two"]), status=402, headers={"X-Ours": "1"})
        received: list[str] = []
        shared.call_on_close(lambda: received.append("closed"))

        response = with_cookies(shared, [COOKIE])
        response.vary.add("Origin")

        status, headers, body = served(response)
        assert shared.headers.getlist("Set-Cookie") == shared.headers.getlist("Vary") == []
        assert (status, body, received) == ("402 PAYMENT REQUIRED", b"one, two", ["closed"])
        assert dict(headers)["X-Ours"] == "1"
        assert [name for name, _ in headers].count("Set-Cookie") == 1

    def test_are_set_on_an_applications_own_kind_of_response(self) -> None:
        class Ours(Response):
            default_mimetype = "text/x-ours"

        response = with_cookies(Ours("text"), [COOKIE])

        assert isinstance(response, Ours)
        assert (response.mimetype, response.get_data()) == ("text/x-ours", b"text")

    def test_of_an_outcome_are_all_set(self) -> None:
        gone = SetCookie(name="__Host-finch-2", value=None, max_age=0, secure=True)
        outcome = Invalid(reason="expired", cookies=(COOKIE, gone), **COMMON)

        response = make_pages().respond(outcome, browser())

        assert len(response.headers.getlist("Set-Cookie")) == 2


ANSWERS = [
    pytest.param(outcome, request, id=f"{named(outcome)}-{who}")
    for outcome in EVERY
    for who, request in (
        ("browser", browser()),
        ("post", browser("POST")),
        ("script", script()),
        ("head", browser("HEAD")),
        ("options", browser("OPTIONS")),
    )
]


class TestEveryAnswer:
    @pytest.mark.parametrize(("outcome", "request_"), ANSWERS)
    def test_is_not_cached_not_framed_and_well_formed(
        self, outcome: Outcome, request_: CallbackRequest
    ) -> None:
        response = with_cookies(make_pages().respond(outcome, request_), [COOKIE])

        sent = guarded(response, method=request_.method)
        assert sent["Vary"] == "Cookie, Accept, Content-Type, Sec-Fetch-Mode"

    def test_with_a_button_to_begin_lets_it_lead_to_connect_and_hides_the_address(self) -> None:
        pages = make_pages(
            begin_path="/connect", customer_of=print, connect_origin="https://connect.test"
        )

        anew, away = (pages.respond(each, browser()) for each in (UNTRUSTED, UNREACHABLE))

        assert "form-action 'self' https://connect.test;" in anew.headers["Content-Security-Policy"]
        # Its Origin must arrive; the address, which may hold a code, must not.
        assert anew.headers["Referrer-Policy"] == "strict-origin"
        assert "form-action 'none';" in away.headers["Content-Security-Policy"]
        assert away.headers["Referrer-Policy"] == "no-referrer"

    @pytest.mark.parametrize("location", [None, SESSION.connect_url], ids=["embedded", "redirect"])
    def test_that_opens_connect_is_as_guarded(self, location: str | None) -> None:
        response = make_pages().open_connect(SESSION, location=location, state="5tate", cookies=[])

        assert guarded(response)["Vary"] == "Cookie"
