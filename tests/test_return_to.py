"""Which places a person may be sent to afterwards; `tests/fuzz` searches for ways off the site."""

from __future__ import annotations

import pytest
from ada_url import URL

from finch_middleware.config.urls import RETURN_TO_LIMIT_BYTES, check_return_to
from finch_middleware.errors import UsageError

SITE = "https://app.example.com"
CALLBACK = f"{SITE}/finch/callback"

WHOLE: list[object] = ["javascript:alert(1)", "javascript://%0aalert(1)", "JaVaScRiPt:alert(1)"]
WHOLE += ["java\tscript:alert(1)", "\x01javascript:alert(1)", "/javascript:alert(1)"]
WHOLE += ["data:text/html,<script>alert(1)</script>", "vbscript:x"]
WHOLE += ["mailto:a@evil.com", "about:blank", "", " ", "/ ", "//", "///", "/\\", "\\"]
WHOLE += ["%", "/%", "/%2", "/%zz", "/\x7f", "/%00", "/a\r\nSet-Cookie: x=1"]
WHOLE += ["/a\r\nLocation: https://evil.com", "/a%0d%0aLocation:%20https://evil.com"]
WHOLE += ["/\ud800", "/<script>", '/"onload=x', "/{x}", "/a|b", "/a^b", "/`a`", "/[x]"]
WHOLE += ["/finch/callback\\..\\..\\/evil.com", None, 5, b"/"]
#: Odd, but places of this application, as they are written to the address.
LOCAL_AFTER_ALL = ("/javascript:alert(1)", "/%ED%A0%80", "/%20")
LEGITIMATE = [
    "/",
    "/settings",
    "/settings/",
    "/settings/payroll/finch.html",
    "/settings?tab=payroll&x=1#finch",
    "/settings?",
    "/settings#",
    "/a/../b/./c",
    "/@me/~you/it's(a)*b+c,d;e=f:g!h$i",
    "/users/a%40b.example",
    "/files/My%20report.pdf",
    "/caf%C3%A9/%E2%82%AC",
    "/search?q=a%26b%3Dc&next=https://other.example//x?y",
    "/search?q=%0A%2F%2F",
    "/#/settings//deep?x",
    "/" + "a" * (RETURN_TO_LIMIT_BYTES - 1),
]


def accepted(payload: object) -> str | None:
    """The path that comes out; None if it is refused. Any other error fails the test."""
    try:
        return check_return_to(payload)  # type: ignore[arg-type]  # hostile on purpose
    except UsageError:
        return None


@pytest.mark.parametrize("path", LEGITIMATE)
def test_a_legitimate_path_passes_unchanged(path: str) -> None:
    assert check_return_to(path) == path
    assert URL(path, CALLBACK).href.startswith(SITE + "/")


@pytest.mark.parametrize(
    ("path", "encoded"),
    [("/café", "/caf%C3%A9"), ("/€?ü=ö#ß", "/%E2%82%AC?%C3%BC=%C3%B6#%C3%9F"), ("/a b", "/a%20b")],
)
def test_letters_outside_ascii_are_percent_encoded(path: str, encoded: str) -> None:
    assert check_return_to(path) == encoded


@pytest.mark.parametrize("payload", WHOLE, ids=ascii)
def test_what_is_no_plain_local_path_is_refused(payload: object) -> None:
    outcome = accepted(payload)

    assert outcome in (None, *LOCAL_AFTER_ALL)


@pytest.mark.parametrize(
    "path",
    ["/" + "a" * RETURN_TO_LIMIT_BYTES, "/" + "é" * 50, "/?" + "a" * RETURN_TO_LIMIT_BYTES],
    ids=["letters", "letters that grow when encoded", "query"],
)
def test_what_is_too_long_for_a_ticket_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="255 bytes"):
        check_return_to(path)


def test_a_refusal_does_not_repeat_the_address() -> None:
    with pytest.raises(UsageError) as refusal:
        check_return_to("https://canary.example")

    assert "canary" not in str(refusal.value)


@pytest.mark.timeout(120)  # a grammar that backtracks would take ages
def test_the_longest_hostile_path_is_judged_at_once() -> None:
    for hostile in ("/" + "a" * 253 + "\\", "/" + "a/" * 126 + "\\", "/" + "%41" * 84 + "%"):
        assert accepted(hostile) is None


APP = "https://app.example.com"


@pytest.mark.parametrize("path", ["/", "/settings", "/a?b=https://x.test#c"])
def test_a_named_origin_may_be_returned_to(path: str) -> None:
    assert check_return_to(APP + path, spa_origins=[APP]) == APP + path


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "origins",
    [("https://app.example.co", APP), ("http://localhost", "http://localhost:3000")],
    ids=["hosts", "ports"],
)
def test_an_origin_that_begins_like_another_one_hides_no_page_of_it(
    origins: tuple[str, str], reverse: bool
) -> None:
    named = origins[::-1] if reverse else origins

    places = [check_return_to(f"{origin}/settings", spa_origins=named) for origin in origins]

    assert places == [f"{origin}/settings" for origin in origins]


def test_a_place_of_a_named_origin_may_fill_the_ticket_and_no_more() -> None:
    longest = APP + "/" + "a" * (RETURN_TO_LIMIT_BYTES - len(APP) - 1)

    assert check_return_to(longest, spa_origins=[APP]) == longest
    with pytest.raises(UsageError, match="over 255 bytes"):
        check_return_to(longest + "a", spa_origins=[APP])


@pytest.mark.parametrize(
    "value",
    [
        APP,
        f"{APP}.evil.example/",
        f"{APP}@evil.example/",
        f"{APP}:8443/",
        f"{APP}//evil.example",
        f"{APP}/\\evil.example",
        f"{APP}/a/%2f%2fb",
        f"http://{APP[8:]}/",
        f"{APP.upper()}/",
        f" {APP}/",
        "https://other.example.com/",
        "//app.example.com/",
        APP + "/" + "a" * (RETURN_TO_LIMIT_BYTES - len(APP)),
        None,
    ],
)
def test_nothing_like_a_named_origin_is(value: object) -> None:
    with pytest.raises(UsageError):
        check_return_to(value, spa_origins=[APP])  # type: ignore[arg-type]  # hostile on purpose


def test_without_named_origins_only_paths_are_places() -> None:
    assert check_return_to("/settings") == "/settings"
    with pytest.raises(UsageError):
        check_return_to(f"{APP}/settings")
