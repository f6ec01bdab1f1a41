"""A path of ours, as a browser writes it."""

from __future__ import annotations

import pytest

from finch_middleware.config.urls import browser_path, wsgi_path


@pytest.mark.parametrize(
    ("redirect_path", "callback_path", "expected"),
    [
        ("/finch/callback", "/finch/callback", "/connect"),
        ("/app/finch/callback", "/finch/callback", "/app/connect"),
        ("/caf%C3%A9/callback", "/callback", "/caf%C3%A9/connect"),
        ("/outside", "/finch/callback", None),
    ],
    ids=["alone", "under a prefix", "under an encoded prefix", "rewritten"],
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
