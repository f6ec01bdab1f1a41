"""The component's responses, converted to Django's."""

from __future__ import annotations

import pickle

import pytest
from werkzeug.wrappers import Response

pytest.importorskip("django")

from django.http import HttpResponse

from finch_middleware.adapters.django import to_django
from tests.adapters import django_site

django_site.set_up()

COOKIE = "__Host-finch-abc=fm1.k1.x-_y; Max-Age=600; Secure; HttpOnly; Path=/; SameSite=Lax"


def with_cookies(*headers: str) -> HttpResponse:
    response = Response()
    for header in headers:
        response.headers.add("Set-Cookie", header)
    return to_django(response)


def test_a_response_keeps_status_body_and_headers() -> None:
    converted = to_django(Response(b"\xff", status=418, headers={"X-A": "1", "Vary": "Cookie"}))

    assert (converted.status_code, converted.content) == (418, b"\xff")
    assert (converted["X-A"], converted["Vary"]) == ("1", "Cookie")


def test_a_response_without_content_type_gets_none() -> None:
    response = Response(status=204)
    del response.headers["Content-Type"]

    converted = to_django(response)

    assert "Content-Type" not in converted


def test_a_header_given_twice_is_joined() -> None:
    response = Response()
    response.headers.add("Vary", "Cookie")
    response.headers.add("Vary", "Accept")

    converted = to_django(response)

    assert converted["Vary"] == "Cookie, Accept"


@pytest.mark.parametrize(
    "headers",
    [
        [
            COOKIE,
            "finch-gone=; Max-Age=0; HttpOnly; Path=/; SameSite=Lax",
            'odd="a b"; Path=/; Partitioned; Unknown=1',
        ],
        ["theme=dark; Path=/", "theme=; Max-Age=0; Path=/old", "theme=; Max-Age=0; Path=/o"],
    ],
    ids=["three names", "one name and three paths"],
)
def test_every_cookie_is_kept_byte_for_byte(headers: list[str]) -> None:
    cookies = with_cookies(*headers).cookies

    assert [cookie.OutputString() for cookie in cookies.values()] == headers
    name, _, value = headers[0].partition(";")[0].partition("=")
    assert cookies[name].value == value


def test_a_cookie_that_django_sets_later_replaces_ours() -> None:
    converted = with_cookies("theme=dark; Path=/")

    converted.set_cookie("theme", "light", samesite="Lax")

    assert converted.cookies["theme"].OutputString() == "theme=light; Path=/; SameSite=Lax"


def test_an_attribute_that_a_middleware_of_django_sets_is_sent() -> None:
    converted = with_cookies("theme=dark; Path=/; HttpOnly")

    converted.cookies["theme"]["secure"] = True

    assert converted.cookies["theme"].OutputString() == "theme=dark; HttpOnly; Path=/; Secure"


def test_a_response_is_closed_after_it_was_read() -> None:
    closed: list[bool] = []
    response = Response("body")
    response.call_on_close(lambda: closed.append(True))

    converted = to_django(response)

    assert converted.content == b"body"
    assert closed == [True]


def test_djangos_code_can_read_the_cookies() -> None:
    cookie = with_cookies(COOKIE).cookies["__Host-finch-abc"]

    assert cookie.value == "fm1.k1.x-_y"
    assert (cookie["max-age"], cookie["path"], cookie["samesite"]) == ("600", "/", "Lax")
    assert cookie["secure"] is True
    assert cookie["httponly"] is True


def test_a_response_in_djangos_cache_keeps_its_cookies() -> None:
    cookie = pickle.loads(pickle.dumps(with_cookies(COOKIE))).cookies["__Host-finch-abc"]

    assert sorted(cookie.OutputString().split("; ")) == sorted(COOKIE.split("; "))
