"""
Where a person is sent afterwards, judged by an independent WHATWG URL parser.

The payloads are the ones that public collections of open redirects have in common, with the
changes that attackers make to them: other slashes, controls, encodings, user names, prefixes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from ada_url import URL
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finch_middleware.config.urls import RETURN_TO_LIMIT_BYTES, check_return_to
from finch_middleware.errors import UsageError

SITE = "https://app.example.com"
CALLBACK = f"{SITE}/finch/callback"

EVIL = ["evil.com", "evil.com/", "evil.com/%2e%2e", "evil.com@app.example.com"]
EVIL += ["app.example.com.evil.com", "app.example.com@evil.com"]
EVIL += ["evil.com#app.example.com", "evil.com?app.example.com", "[::1]", "2130706433"]
EVIL += ["0x7f.1", "evil%E3%80%82com", "evil。com", "⑯⑨.②⑤④.⑯⑨.②⑤④", "EVIL.com:443"]
LEADS = ["//", "///", "////", "/\\", "\\/", "\\\\", "\\/\\/", "/\\/", "/\\\\", "//\\"]
LEADS += ["///\\", "/ /", "/%20/", "/\t/", "/\n/", "/\r/", "\t//", "\n//", " //"]
LEADS += ["\x00//", "\x01//", "\x0b//", "\u00a0//", "/\x00/", "/%09/", "/%0a/"]
LEADS += ["/%0d/", "/%0d%0a/", "/%00/", "/%5c", "/%5C/", "%5c%5c", "/%2f", "/%2F/"]
LEADS += ["%2f%2f", "/%252f", "/%255c", "/%25252f", "/%2509/", "/%c0%af", "/%e0%80%af"]
LEADS += ["/%EF%BC%8F", "/／", "／／", "/⁄", "/∕", "/./", "/.//", "/..//", "/../..//"]
LEADS += ["/./\\", "/;//", "/;@", "/.;//", "/%2e//", "/%2e%2e//", "/..%2f", "/..%2f/"]
LEADS += ["/..%5c", "/..\\", "/.\\", "/.%09./", "/x/..//", "/x/../..//", "/x//"]
LEADS += ["/x/%2f", "/?//", "/#//", "?//", "#//", "https://", "http://", "HTTPS://"]
LEADS += ["https:", "https:/", "https:///", "https:\\\\", "https:\\", "http:"]
LEADS += ["http:/", "ht\ntps://", "\thttps://", " https://", "https:%2f%2f"]
LEADS += ["https%3a//", "https%3a%2f%2f", "/https://", "/http:/"]
LEADS += ["https://app.example.com@", "https://app.example.com:x@"]
LEADS += ["https://app.example.com%40", "//app.example.com@", "ftp://", "ws://"]
LEADS += ["file://", "file:///", "blob:https://", "view-source:", "x:", "x://", ""]
LEADS += [".", "..", "@", ":", "~//"]
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
PAYLOADS = [lead + host for lead, host in itertools.product(LEADS, EVIL)]
PAYLOADS += [each for each in WHOLE if isinstance(each, str)]

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


def mutations(payload: str) -> Iterator[str]:
    """*payload*, decoded up to twice, and spelled as attackers spell it."""
    yield payload
    yield unquote(payload)
    yield unquote(unquote(payload))
    yield payload.replace("/", "%2f")
    yield payload.replace("/", "%252f")
    yield payload.replace("/", "\\")
    yield payload.replace("//", "/\t/")
    yield "/" + payload
    yield payload + "/.."
    yield "/x" + payload
    yield "/%2e" + payload


def accepted(payload: object) -> str | None:
    """The path that comes out; None if it is refused. Any other error fails the test."""
    try:
        return check_return_to(payload)  # type: ignore[arg-type]  # hostile on purpose
    except UsageError:
        return None


def leads_off_site(path: str) -> bool:
    """Whether a browser would leave the site for *path*, as it is or decoded on the way."""
    spellings = {path}
    # Somebody's template or proxy may decode the path, but then no more than twice.
    tail_at = min((path + "?#").index(mark) for mark in "?#")
    for decoded in (unquote(path[:tail_at]), unquote(unquote(path[:tail_at]))):
        spellings.add(decoded + path[tail_at:])
    places = [URL(each, base) for each in spellings for base in (CALLBACK, SITE)]
    return any(str(place.origin) != SITE or place.username for place in places)


@pytest.mark.parametrize(
    "payload", ["//evil.com", "/\\evil.com", "/\t/evil.com", "http:evil.com", "/%2f%2fevil.com"]
)
def test_the_judge_knows_an_open_redirect(payload: str) -> None:
    assert leads_off_site(payload)


def test_no_known_payload_leads_off_site() -> None:
    tried = {mutation for payload in PAYLOADS for mutation in mutations(payload)}

    through = [path for payload in sorted(tried, key=ascii) if (path := accepted(payload))]

    assert len(tried) > 5000
    assert through, "a payload that is a local path shows that the judge was asked"
    assert [path for path in through if leads_off_site(path)] == []


@settings(max_examples=1000)
@given(st.text(st.sampled_from("/\\.%2f5cCF9aA0dDeE@:?#;\t\n\r \x00é／\ud800"), max_size=24))
@example("/%252f/evil.com")
@example("/.%5c.%2f")
def test_whatever_is_accepted_is_a_plain_ascii_path_of_this_site(text: str) -> None:
    for candidate in (text, "/" + text, "/" + text + "evil.com"):
        path = accepted(candidate)
        if path is None:
            continue
        assert path.startswith("/")
        assert not path.startswith(("//", "/\\"))
        assert path.isascii()
        assert all("!" <= character <= "~" and character != "\\" for character in path)
        assert not leads_off_site(path)
        assert check_return_to(path) == path


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


@pytest.mark.timeout(10)  # a grammar that backtracks would take ages
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
