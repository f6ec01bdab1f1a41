from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from ada_url import URL

from finch_middleware.begin import Opening, connect_location
from finch_middleware.errors import FinchUnavailable, UsageError
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.secret import Secret
from tests.keys import a_settings

ORIGIN = "https://connect.tryfinch.com"
STATE = Secret("abcdefghijklmnopqrstu_")
REDIRECT_URI = "https://app.example.com/finch/callback"


def opening(**changes: Any) -> Opening:
    return Opening(**{"customer_id": "acme", "customer_name": "Acme Inc.", **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"customer_name": "A"},
        {"customer_name": "é" * 255},
        {"expires_in": timedelta(minutes=1)},
        {"expires_in": timedelta(days=90)},
        {"flow": "embedded"},
        {"when_connected": "raise"},
        {"return_to": "/café?x#y"},
    ],
    ids=str,
)
def test_what_can_be_carried_out_is_taken(changes: dict[str, Any]) -> None:
    asked = opening(**changes)

    assert asked.checked(a_settings()) is asked


@pytest.mark.parametrize(
    "changes",
    [
        {"customer_name": ""},
        {"customer_name": "a" * 256},
        {"customer_name": None},
        {"customer_name": 5},
        {"flow": "popup"},
        {"flow": None},
        {"when_connected": "ignore"},
        {"expires_in": timedelta(seconds=59)},
        {"expires_in": timedelta(days=90, seconds=1)},
        {"expires_in": timedelta(0)},
        {"expires_in": timedelta(hours=-1)},
        {"expires_in": 3600},
        {"expires_in": None},
        {"return_to": "//evil.example"},
        {"return_to": None},
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_an_error_of_the_caller(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        opening(**changes).checked(a_settings())


def test_a_session_asks_for_what_is_configured() -> None:
    assert opening().session_fields(a_settings()) == {
        "customer_id": "acme",
        "customer_name": "Acme Inc.",
        "products": ["company", "directory"],
        "minutes_to_expire": 60,
        "redirect_uri": REDIRECT_URI,
    }


def test_a_session_asks_for_what_the_call_names() -> None:
    asked = opening(
        products=("ssn",),
        customer_email="a@b.example",
        provider="gusto",
        manual=False,
        expires_in=timedelta(minutes=14),
    )

    assert asked.session_fields(a_settings(sandbox="finch")) == {
        "customer_id": "acme",
        "customer_name": "Acme Inc.",
        "customer_email": "a@b.example",
        "products": ["ssn"],
        "integration": {"provider": "gusto", "auth_method": None},
        "manual": False,
        "minutes_to_expire": 14,
        "redirect_uri": REDIRECT_URI,
        "sandbox": "finch",
    }


def test_an_embedded_flow_never_sends_a_redirect_uri() -> None:
    asked = opening(flow="embedded")

    assert "redirect_uri" not in asked.session_fields(a_settings())
    assert "redirect_uri" not in asked.session_fields(a_settings(), connection_id="c-1")


def test_a_reauthentication_names_the_connection_and_its_own_products() -> None:
    assert opening().session_fields(a_settings(), connection_id="c-1", products=["ssn"]) == {
        "connection_id": "c-1",
        "products": ["ssn"],
        "minutes_to_expire": 60,
        "redirect_uri": REDIRECT_URI,
    }


@pytest.mark.parametrize(
    ("life", "minutes"),
    [
        (timedelta(minutes=1), 1),
        (timedelta(minutes=1, seconds=1), 2),
        (timedelta(days=90), 129_600),
    ],
    ids=str,
)
def test_a_session_lives_as_long_as_its_ticket_or_a_little_longer(
    life: timedelta, minutes: int
) -> None:
    assert opening(expires_in=life).session_fields(a_settings())["minutes_to_expire"] == minutes


@pytest.mark.parametrize(
    "url",
    [
        f"{ORIGIN}/authorize?session=s-1",
        f"{ORIGIN}:443/authorize?session=s-1&customer_email=a@b.example",
        "https://Connect.TryFinch.com/authorize?session=s-1#fragment",
    ],
)
def test_the_state_goes_with_the_session(url: str) -> None:
    location = connect_location(ConnectSession("s-1", url), STATE, connect_origin=ORIGIN)

    query = dict(parse_qsl(urlsplit(location).query))
    assert (query["session"], query["state"]) == ("s-1", STATE.reveal())
    assert "#" not in location
    assert URL(location).origin == ORIGIN


def test_a_session_without_a_query_gets_one() -> None:
    location = connect_location(ConnectSession("s", f"{ORIGIN}/a"), STATE, connect_origin=ORIGIN)

    assert location == f"{ORIGIN}/a?state={STATE.reveal()}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/authorize",
        "https://evil.example/authorize",
        "http://connect.tryfinch.com/authorize",
        "https://connect.tryfinch.com:8443/authorize",
        "https://connect.tryfinch.com.evil.example/authorize",
        "https://evil.example\\@connect.tryfinch.com/authorize",
        "https://connect.tryfinch.com\\@evil.example/authorize",
        "https://user@connect.tryfinch.com/authorize",
        "https://[connect.tryfinch.com/authorize",
        "https://connect.tryfinch.com/\r\nSet-Cookie: x=1",
        "https://connect.tryfinch.com/\tx",
        " https://connect.tryfinch.com/",
        "https://connect.tryfinch.com/é",
        "https://connect.tryfinch.com:port/",
        "javascript://connect.tryfinch.com/%0aalert(1)",
        "//connect.tryfinch.com/authorize",
        None,
    ],
    ids=ascii,
)
def test_a_session_that_leads_elsewhere_is_not_followed(url: Any) -> None:
    session = ConnectSession("s-1", url, request_id="r-1")

    with pytest.raises(FinchUnavailable) as fault:
        connect_location(session, STATE, connect_origin=ORIGIN)

    assert (fault.value.reason, fault.value.request_id) == ("bad_response", "r-1")
    assert "evil" not in str(fault.value)
    with pytest.raises(
        UsageError, match=f"connect_url of session must lead to {ORIGIN}"
    ) as refused:
        opening(session=session).checked(a_settings())
    assert "evil" not in str(refused.value)
