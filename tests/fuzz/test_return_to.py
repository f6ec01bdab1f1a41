"""T10: no return_to leads off the site, whoever decodes it, judged by a WHATWG URL parser."""

from __future__ import annotations

import random
import re
from urllib.parse import unquote

import ada_url
import pytest
from hypothesis import given, settings, strategies as st

from finch_middleware import FinchMiddleware, UsageError
from finch_middleware.config.urls import check_return_to
from finch_middleware.testing.fake_finch import FakeFinch
from tests.fuzz.seeds import seeded
from tests.threats.desk import begun, component, returned
from tests.threats.sizes import RETURN_TO

_ORIGIN = "https://app.test"
_SPA = "https://spa.test"
_BASE = f"{_ORIGIN}/finch/callback?code=1"

#: Ways off a site that filters have let through.
OFF_SITE = [
    "//evil.test", "///evil.test", "////evil.test", "/\\evil.test", "\\\\evil.test",
    "\\/evil.test", "/\t/evil.test", "/\n/evil.test", "/\r\n/evil.test", "\t//evil.test",
    " //evil.test", "/%09/evil.test", "/%0a/evil.test", "/%2f/evil.test", "/%2fevil.test",
    "/%5cevil.test", "/%5c%5cevil.test", "/%252f%252fevil.test", "/%252fevil.test",
    "/%255cevil.test", "//evil%E3%80%82test", "https://evil.test", "https:evil.test",
    "https:/evil.test", "https:///evil.test", "HTTPS://evil.test", "http:evil.test",
    "//https:evil.test", "javascript:alert(1)", "java\tscript:alert(1)", "JaVaScRiPt:1",
    "data:text/html,1", "vbscript:1", "file:///etc/passwd", "blob:https://app.test/1",
    "//app.test@evil.test", "https://app.test@evil.test", "https://app.test.evil.test",
    "//app.test:80@evil.test", "/..//evil.test", "/.//evil.test", "/a/..//evil.test",
    "/a/../..//evil.test", "/%2e%2e//evil.test", "/.%2f/evil.test", "/a//evil.test",
    "/;//evil.test", "//;@evil.test", "/\x00/evil.test", "/\x0b/evil.test", "/\u2028/evil.test",
    "/\uff0fevil.test", "\uff0f\uff0fevil.test", "/\u2215evil.test", "\u3002//evil.test",
    "/\\/evil.test", "/\\\\evil.test", "/?//evil.test", "?//evil.test", "#//evil.test",
    "evil.test", ".evil.test", "@evil.test", ":80//evil.test", "", " ", "//", "/\\", "\\", "//?",
    "//#", "///", "http://[::1", "//[", "/%", "/%zz", "//%65vil.test", "/%68ttps://evil.test",
    "/\ud800/evil.test", "/\ufeff/evil.test", "//\u202eevil.test",
]  # fmt: skip

_PIECES = [
    *"/\\.@:;?#%&=+~\t\n\r\x00 \x0b\x7f", "%2f", "%5c", "%2F", "%252f", "%255c", "%25", "%09",
    "%0a", "%00", "%2e", "..", "//", "https:", "http:", "javascript:", "evil.test", "app.test",
    "é", "\uff0f", "\u2028", "\ud800", "a", "settings", "%c3%a9", "%ff", "[", "]", "::1", "xn--",
]  # fmt: skip


def _origins(path: str) -> set[str]:
    """Where a browser would go with *path*, as it stands and decoded once and twice."""
    spellings = [path, unquote(path), unquote(unquote(path))]
    return {str(ada_url.URL(each, base=_BASE).origin) for each in spellings}


def _accepted(value: str) -> str | None:
    try:
        return check_return_to(value)
    except UsageError:
        return None


def _mutant(draw: random.Random) -> str:
    """A way off a site, changed; or pieces of such ways in any order."""
    if draw.random() < 0.4:
        return "/" + "".join(draw.choices(_PIECES, k=draw.randrange(1, 9)))
    value = draw.choice(OFF_SITE)
    for _ in range(draw.randrange(3)):
        at = draw.randrange(len(value) + 1)
        value = value[:at] + draw.choice(_PIECES) + value[at + draw.randrange(2) :]
    return draw.choice(["", "/", "/a"]) + value


def test_t10_no_mutant_of_a_known_way_off_the_site_is_taken() -> None:
    draw = seeded()
    taken = 0

    for _ in range(RETURN_TO()):
        path = _accepted(_mutant(draw))
        if path is None:
            continue
        taken += 1
        assert _origins(path) == {_ORIGIN}
    # The promise is not kept by taking nothing.
    assert taken > RETURN_TO() // 200


def test_t10_with_a_named_origin_nothing_leads_anywhere_else() -> None:
    draw = seeded()
    led: set[str] = set()

    for _ in range(RETURN_TO()):
        value = draw.choice([_SPA, _SPA, ""]) + _mutant(draw)[draw.randrange(2) :]
        try:
            path = check_return_to(value, spa_origins=[_SPA])
        except UsageError:
            continue
        led |= _origins(path)
    assert led == {_ORIGIN, _SPA}


@settings(max_examples=max(50, RETURN_TO() // 200))
@given(value=st.text(alphabet=st.sampled_from("".join(_PIECES)) | st.characters(), max_size=40))
def test_t10_no_text_that_hypothesis_finds_leads_off_the_site(value: str) -> None:
    path = _accepted(value)

    assert path is None or (_origins(path) == {_ORIGIN} and re.fullmatch("/[!-~]*", path))
    assert path is None or check_return_to(path) == path


@pytest.mark.parametrize("value", OFF_SITE, ids=ascii)
def test_t10_a_known_way_off_the_site_never_gets_into_a_location(
    fake: FakeFinch, value: str
) -> None:
    finch = component(fake, redirect_uri=f"{_ORIGIN}/finch/callback")
    app = FinchMiddleware(_nothing, finch)

    try:
        held = begun(finch, fake, return_to=value)
    except UsageError:
        return
    answer = returned(app, f"state={held.state}&return_to=//evil.test", cookie=held.cookie)

    assert answer.status == 303
    assert _origins(answer.location) == {_ORIGIN}


def _nothing(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("not the application's")


@pytest.mark.parametrize("name", ["return_to", "next", "redirect_uri", "RelayState", "url"])
def test_t10_no_parameter_of_the_callback_decides_where_a_person_goes(
    fake: FakeFinch, name: str
) -> None:
    finch = component(fake)
    held = begun(finch, fake, return_to="/settings")
    query = f"state={held.state}&{name}=https%3A%2F%2Fevil.test"

    answer = returned(FinchMiddleware(_nothing, finch), query, cookie=held.cookie)

    assert answer.location.partition("?")[0] == "/settings"
