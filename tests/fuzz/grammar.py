"""
A grammar of hostile callback requests.

Drawn from `random.Random`, so that Hypothesis can draw, and shrink, the same requests. None
of them may reach Finch: a code never comes together with a state that opens a ticket.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from tests.site import CALLBACK
from tests.threats.desk import Held
from tests.threats.wsgi import environ_of

#: Stands in every part that a request can carry text in; no answer may hold it.
MARKER = "zQ7xK-9vW3m"

_ODD = [
    "",
    "\x00",
    "\r\nX-Injected: 1",
    "\n",
    "\t",
    "\x7f",
    "\x80\xff",
    "é",
    "\xe2\x80\xa8",
    "%",
    "%0",
    "%zz",
    "%00",
    "%0d%0a",
    "%c3%28",
    "%ff",
    "%25%30%30",
    "%u0041",
    "+",
    " ",
    "<script>",
    '"',
    "'",
    "\\",
    "../",
    "//evil.test",
    "${7*7}",
    "{{7*7}}",
    ";",
    "&",
    "=",
    "#",
    "null",
    "[]",
    "a" * 600,
    "b" * 5000,
]
_NAMES = ["state", "error", "error_description", "iss", "session_state", "x", "", "code[]", "STATE"]
_CODE_NAMES = ["code", "code", "code", "c%6fde", "Code", "code%00"]
_METHODS = ["GET"] * 12 + ["POST"] * 8 + ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"]
_ODD_METHODS = ["get", "", "GET ", "G\x00T", "POST\r\n", f"{MARKER}", "CONNECT", "PROPFIND"]
_KINDS = [
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded;charset=latin-1",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
    f"{MARKER}/{MARKER}",
    "application/json\x00",
]
_LENGTHS = ["", "0", "-1", "+5", "1e3", "99999999999999", "8193", "٣", "5, 5", " 5", "0x10", MARKER]
_FETCHES: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": MARKER, "Sec-Fetch-Mode": MARKER},
    {"Origin": "http://localhost"},
    {"Origin": "null"},
    {"Origin": f"http://{MARKER}"},
]
_ACCEPTED = ["text/html", "application/json", "*/*", "", f"{MARKER}/*", "text/html;q=é", "\x00"]
_PREFETCHES = [
    {"Sec-Purpose": "prefetch"},
    {"Purpose": "prefetch"},
    {"X-Moz": "prefetch"},
    {"X-Purpose": "preview"},
]


#: Paths that look like ours: the application's, whatever else the request holds.
_OTHER_PATHS = [
    CALLBACK + "/",
    "/" + CALLBACK,
    CALLBACK.upper(),
    CALLBACK + ";x",
    CALLBACK + "%2f",
    CALLBACK + "\x00",
    CALLBACK + " ",
    "/x/.." + CALLBACK,
    CALLBACK[:-1],
    "/",
    "",
    "/\xc3\xa9",
    f"{CALLBACK}/{MARKER}",
]


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """
    A request that must not reach Finch.

    Attributes:
        environ: As a server would make it, or a careless one.
        valid: Whether PEP 3333 allows it, so that the validator may look at it.
    """

    environ: dict[str, Any]
    valid: bool


class _Stream(io.BytesIO):
    """A body that may end early, come in crumbs, or break."""

    def __init__(self, body: bytes, *, manner: str) -> None:
        super().__init__(body)
        self._manner = manner

    def read(self, size: int | None = -1, /) -> bytes:
        if self._manner == "breaks":
            raise OSError(f"{MARKER} broke")
        if self._manner == "crumbs" and size is not None and size > 0:
            size = min(size, 3)
        return super().read(size)


def _text(draw: Random) -> str:
    """Some text, the marker in it, odd pieces around it."""
    return f"{draw.choice(_ODD)}{MARKER}{draw.choice(_ODD)}" if draw.random() < 0.7 else MARKER


def _value(draw: Random) -> str:
    text = _text(draw)
    return quote(text, safe="") if draw.random() < 0.6 else text


def _pairs(draw: Random, held: Held | None) -> list[tuple[str, str]]:
    """Parameters, doubled here and there; with a good state there is never a code."""
    good_state = held is not None and draw.random() < 0.3
    pairs = [(draw.choice(_NAMES), _value(draw)) for _ in range(draw.randrange(4))]
    if good_state and held is not None:
        pairs.append(("state", held.state))
    else:
        code = draw.choice([MARKER, _value(draw), "0f5f2c1e-8d0f-4f6c-9d0b-3f1f0a3c9d11"])
        pairs += [(draw.choice(_CODE_NAMES), code) for _ in range(draw.randrange(3))]
        if held is not None and draw.random() < 0.5:
            pairs.append(("state", _near(draw, held.state)))
    if draw.random() < 0.1:
        pairs += [(f"p{number}", MARKER) for number in range(30)]
    draw.shuffle(pairs)
    return pairs


def _near(draw: Random, state: str) -> str:
    """A state that is almost the right one."""
    return draw.choice([state[:-1], state + "A", state.swapcase(), f"{state}%00", state[::-1]])


def _joined(draw: Random, pairs: Sequence[tuple[str, str]]) -> str:
    joiner = draw.choice(["&", "&", "&", "&&", ";"])
    return joiner.join(name if value == "" else f"{name}={value}" for name, value in pairs)


def _body(draw: Random, pairs: Sequence[tuple[str, str]], kind: str) -> bytes:
    if "json" not in kind or draw.random() < 0.1:
        return _joined(draw, pairs).encode()
    odd: list[object] = [None, 7, True, [MARKER], {"a": MARKER}, 1e308, "\ud800"]
    members = [(name, draw.choice(odd) if draw.random() < 0.15 else v) for name, v in pairs]
    text = "{" + ",".join(f"{json.dumps(n)}:{json.dumps(v)}" for n, v in members) + "}"
    broken = [text, text, text, text[:-1], "[" * 4000, f"[{text}]", text + text, f"\ufeff{text}"]
    return draw.choice(broken).encode("utf-8", "surrogatepass")


def _cookie(draw: Random, held: Held | None) -> str:
    crowd = [f"{_text(draw)}={_text(draw)}" for _ in range(draw.randrange(3))]
    crowd += [f"finch-{MARKER[:8]}=fm1.k1.{draw.choice(['', 'A' * 200, MARKER])}"] * draw.randrange(
        3
    )
    if held is not None:
        crowd.append(held.cookie)
    draw.shuffle(crowd)
    return draw.choice(["; ", ";", ",", "; "]).join(crowd)


def _headers(draw: Random, held: Held | None, kind: str) -> dict[str, str]:
    headers = {"Cookie": _cookie(draw, held), "Accept": draw.choice(_ACCEPTED)}
    headers |= draw.choice(_FETCHES)
    if kind:
        headers["Content-Type"] = kind
    if draw.random() < 0.1:
        headers |= draw.choice(_PREFETCHES)
    if draw.random() < 0.3:
        headers |= {name: _text(draw) for name in ("Referer", "Host", "X-Forwarded-Host")}
    return headers


def hostile(draw: Random, tickets: Sequence[Held]) -> Hostile:
    """The next request; *tickets* are of flows that take no code without their state."""
    held = draw.choice(tickets) if draw.random() < 0.8 else None
    odd = draw.random() < 0.05
    method = draw.choice(_ODD_METHODS if odd else _METHODS)
    kind = draw.choice(_KINDS[:3] if draw.random() < 0.8 else _KINDS)
    pairs = _pairs(draw, held)
    cut = draw.randrange(len(pairs) + 1) if method == "POST" else len(pairs)
    body = _body(draw, pairs[cut:], kind) if method == "POST" else None
    environ = environ_of(
        draw.choice(_OTHER_PATHS) if draw.random() < 0.1 else CALLBACK,
        method=method,
        query=_joined(draw, pairs[:cut]),
        headers=_headers(draw, held, kind),
        body=body,
        script_name=draw.choice(["", "", "/app", f"/{MARKER}"]),
    )
    manner = draw.choice(["whole", "whole", "whole", "crumbs", "breaks"])
    environ["wsgi.input"] = _Stream(body or b"", manner=manner)
    lies = draw.random() < 0.1
    if lies:
        environ["CONTENT_LENGTH"] = draw.choice(_LENGTHS)
    return Hostile(environ=environ, valid=not odd and not lies)
