"""The component's responses, converted to Django's."""

from __future__ import annotations

import pickle

import pytest
from werkzeug.wrappers import Response

pytest.importorskip("django")

from finch_middleware.adapters.django import to_django
from tests.adapters import django_site

django_site.set_up()

COOKIE = "__Host-finch-abc=fm1.k1.x-_y; Max-Age=600; Secure; HttpOnly; Path=/; SameSite=Lax"


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


def test_every_cookie_is_kept_byte_for_byte() -> None:
    headers = [
        COOKIE,
        "finch-gone=; Max-Age=0; HttpOnly; Path=/; SameSite=Lax",
        'odd="a b"; Path=/; Partitioned; Unknown=1',
    ]
    response = Response()
    for header in headers:
        response.headers.add("Set-Cookie", header)

    converted = to_django(response)

    sent = [cookie.OutputString() for cookie in converted.cookies.values()]
    assert sent == headers


def test_cookies_of_one_name_and_different_paths_are_all_kept() -> None:
    headers = ["theme=dark; Path=/", "theme=; Max-Age=0; Path=/old", "theme=; Max-Age=0; Path=/o"]
    response = Response()
    for header in headers:
        response.headers.add("Set-Cookie", header)

    converted = to_django(response)

    assert [cookie.OutputString() for cookie in converted.cookies.values()] == headers
    assert converted.cookies["theme"].value == "dark"


def test_a_cookie_that_django_sets_later_replaces_ours() -> None:
    response = Response()
    response.headers.add("Set-Cookie", "theme=dark; Path=/")
    converted = to_django(response)

    converted.set_cookie("theme", "light", samesite="Lax")

    assert converted.cookies["theme"].OutputString() == "theme=light; Path=/; SameSite=Lax"


def test_an_attribute_that_a_middleware_of_django_sets_is_sent() -> None:
    response = Response()
    response.headers.add("Set-Cookie", "theme=dark; Path=/; HttpOnly")
    converted = to_django(response)

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
    response = Response()
    response.headers.add("Set-Cookie", COOKIE)

    cookie = to_django(response).cookies["__Host-finch-abc"]

    assert cookie.value == "fm1.k1.x-_y"
    assert (cookie["max-age"], cookie["path"], cookie["samesite"]) == ("600", "/", "Lax")
    assert cookie["secure"] is True
    assert cookie["httponly"] is True


def test_a_response_in_djangos_cache_keeps_its_cookies() -> None:
    response = Response()
    response.headers.add("Set-Cookie", COOKIE)

    cookie = pickle.loads(pickle.dumps(to_django(response))).cookies["__Host-finch-abc"]

    assert sorted(cookie.OutputString().split("; ")) == sorted(COOKIE.split("; "))
