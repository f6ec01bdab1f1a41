"""What the headers of a callback request mean: the sender, its origin, its cookies."""

from __future__ import annotations

import pytest

from finch_middleware.web.request import CallbackRequest

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
NAVIGATE = {"Sec-Fetch-Mode": "navigate"}


@pytest.mark.parametrize(
    ("headers", "script"),
    [
        ({}, False),
        ({"Accept": "*/*"}, False),
        ({"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, False),
        ({"Accept": "application/json"}, True),
        ({"Accept": "application/json, text/plain, */*"}, True),
        ({"Accept": "text/html, application/json"}, False),
        ({"Content-Type": JSON}, True),
        ({"Content-Type": FORM}, False),
        ({"Content-Type": JSON, **NAVIGATE}, False),
        ({"Accept": "application/json", **NAVIGATE}, False),
        ({"Accept": "text/html", "Sec-Fetch-Mode": "cors"}, True),
        ({"Sec-Fetch-Mode": "same-origin"}, True),
        ({"Sec-Fetch-Mode": "no-cors"}, True),
    ],
    ids=str,
)
def test_who_waits_for_json(headers: dict[str, str], script: bool) -> None:
    assert CallbackRequest(headers=headers).from_script is script


ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    ("site", "origin", "ours"),
    [
        ("same-origin", None, True),
        ("same-origin", ORIGIN, True),
        ("same-site", ORIGIN, False),
        ("cross-site", ORIGIN, False),
        ("none", ORIGIN, False),
        ("none", None, False),
        ("", ORIGIN, False),
        ("same-origin, cross-site", ORIGIN, False),
        ("Same-Origin", None, False),
        (None, ORIGIN, True),
        (None, None, False),
        (None, "null", False),
        (None, "", False),
        (None, "https://app.example.com.evil", False),
        (None, "https://evil.app.example.com", False),
        (None, "https://example.com", False),
        (None, "http://app.example.com", False),
        (None, "https://app.example.com:443", False),
        (None, "https://app.example.com:8443", False),
        (None, "https://app.example.com/", False),
        (None, "HTTPS://APP.EXAMPLE.COM", False),
        (None, f"{ORIGIN}, {ORIGIN}", False),
        (None, f" {ORIGIN}", False),
    ],
)
def test_only_a_page_of_our_own_origin_is_our_page(
    site: str | None, origin: str | None, ours: bool
) -> None:
    headers = {
        "Sec-Fetch-Site": site,
        "Origin": origin,
        "Referer": f"{ORIGIN}/",
        "Host": "app.example.com",
    }

    request = CallbackRequest(
        headers={name: value for name, value in headers.items() if value is not None}
    )

    assert request.same_origin(ORIGIN) is ours


def test_cookies_come_in_their_order_duplicates_and_odd_ones_too() -> None:
    header = 'a=1; b="x; a=2 ;\tc ; =d; e=f=g;; é=\xff'

    pairs = list(CallbackRequest.of({"REQUEST_METHOD": "GET", "HTTP_COOKIE": header}).cookies())

    assert pairs == [
        ("a", "1"),
        ("b", '"x'),
        ("a", "2"),
        ("c", ""),
        ("", "d"),
        ("e", "f=g"),
        ("", ""),
        ("é", "\xff"),
    ]
