"""The rules about URLs: paths as a browser writes them, origins, and loopback."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st

from finch_middleware.config.urls import browser_path, is_loopback, origin_of, wsgi_path


@pytest.mark.parametrize(
    ("redirect_path", "callback_path", "expected"),
    [
        ("/finch/callback", "/finch/callback", "/connect"),
        ("/app/finch/callback", "/finch/callback", "/app/connect"),
        ("/caf%C3%A9/callback", "/callback", "/caf%C3%A9/connect"),
        ("", "/", "/connect"),
        ("/outside", "/finch/callback", None),
    ],
    ids=["alone", "under a prefix", "under an encoded prefix", "at the root", "rewritten"],
)
def test_a_path_is_below_the_prefix_that_the_callback_is_below(
    redirect_path: str, callback_path: str, expected: str | None
) -> None:
    redirect_uri = f"https://app.example.com{redirect_path}?x=/callback"

    found = browser_path("/connect", callback_path=callback_path, redirect_uri=redirect_uri)

    assert found == expected


@pytest.mark.parametrize("path", ["/b%C3%A9gin", "/a%20b", "/%22%3E", "/plain"])
def test_a_path_is_written_as_it_was_configured(path: str) -> None:
    callback = "/callback"

    found = browser_path(
        wsgi_path(path), callback_path=callback, redirect_uri=f"https://a.example{callback}"
    )

    assert found == path


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), (None, False), ("127.0.0.2", False)],
)
def test_only_this_machine_is_loopback(host: str | None, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@given(
    st.sampled_from(["https", "http"]),
    st.sampled_from(["a.example", "[::1]"]),
    st.integers(1, 65535),
)
def test_an_origin_names_the_port_only_where_a_browser_does(
    scheme: str, host: str, port: int
) -> None:
    usual = {"https": 443, "http": 80}[scheme]

    origin = origin_of(urlsplit(f"{scheme}://{host}:{port}/path?x"))

    assert origin == f"{scheme}://{host}" + ("" if port == usual else f":{port}")
