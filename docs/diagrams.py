"""
The diagrams of the manual, drawn anew: ``python docs/diagrams.py``.

`tests/docs/test_diagrams.py` compares them with the code that they show. Each is an SVG with a
ground of its own, so that it can be read in light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from finch_middleware.attempts import AttemptState

IMAGES = Path(__file__).parent / "images"

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1d2430; }
.title { font-weight: 600; } .soft { fill: #565d69; font-size: 12px; }
.ground { fill: #fbfaf8; } .box { fill: #fff; stroke: #8b9097; } .note { fill: #e6efec; }
.life { stroke: #b9bdc2; stroke-dasharray: 3 4; } .arrow { stroke: #1f4f46; fill: none; }
.head { fill: #1f4f46; }
@media (prefers-color-scheme: dark) {
  text { fill: #eceff2; } .soft { fill: #a5afba; }
  .ground { fill: #161b21; } .box { fill: #1f262e; stroke: #74808c; } .note { fill: #22332f; }
  .life { stroke: #55606b; } .arrow { stroke: #8fd0bf; } .head { fill: #8fd0bf; }
}
""".strip()
_HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
)


class Step(NamedTuple):
    """A message between two participants, or a note where both are the same."""

    source: str
    target: str
    text: str
    #: The file of the package that does it; empty where the library is not involved.
    file: str = ""


class Transition(NamedTuple):
    """A change of an attempt's state, and the files that make it."""

    target: str
    cause: str
    file: str


BROWSER, APPLICATION, STORAGE, FINCH = "Browser", "Your application", "Storage", "Finch"
PARTICIPANTS = (BROWSER, APPLICATION, STORAGE, FINCH)

_BEGIN = (
    Step(APPLICATION, STORAGE, "prove that it can be written", "operations/recovery.py"),
    Step(APPLICATION, FINCH, "open a session", "finch/client.py"),
)
_FINISH = (
    Step(APPLICATION, APPLICATION, "ticket and login name the customer", "binding.py"),
    Step(APPLICATION, STORAGE, "claim the code, committed", "duplicates.py"),
    Step(APPLICATION, FINCH, "exchange the code, once", "exchange.py"),
    Step(FINCH, APPLICATION, "access token, customer", "finch/responses.py"),
    Step(APPLICATION, APPLICATION, "compare the customer, seal the token", "exchange.py"),
    Step(APPLICATION, STORAGE, "store token and attempt, committed", "exchange.py"),
)
FLOWS: dict[str, tuple[Step, ...]] = {
    "flow_redirect": (
        Step(BROWSER, APPLICATION, "POST, your button"),
        *_BEGIN,
        Step(APPLICATION, BROWSER, "303 to Finch Connect, ticket cookie", "begin.py"),
        Step(BROWSER, FINCH, "sign in to the payroll, allow"),
        Step(FINCH, BROWSER, "303 to the callback: code, state"),
        Step(BROWSER, APPLICATION, "GET the callback, with the ticket", "callback.py"),
        *_FINISH,
        Step(APPLICATION, BROWSER, "303 to return_to?finch=connected", "web/pages.py"),
    ),
    "flow_embedded": (
        Step(BROWSER, APPLICATION, "fetch POST, your script"),
        *_BEGIN,
        Step(APPLICATION, BROWSER, "JSON: session, state; ticket cookie", "begin.py"),
        Step(BROWSER, FINCH, "Finch's script opens a frame; sign in, allow"),
        Step(FINCH, BROWSER, "onSuccess: code, state"),
        Step(BROWSER, APPLICATION, "fetch POST of both, with the ticket", "callback.py"),
        *_FINISH,
        Step(APPLICATION, BROWSER, "JSON: connected, return_to", "web/pages.py"),
    ),
}

#: From CLAIMED, where every attempt begins, and from QUARANTINED.
TRANSITIONS: dict[str, tuple[Transition, ...]] = {
    "claimed": (
        Transition("stored", "Finch names the customer; the token is stored", "exchange.py"),
        Transition("quarantined", "Finch names another customer, or none", "exchange.py"),
        Transition("failed", "Finch rejects the code, or sends no token", "exchange.py"),
        Transition(
            "ambiguous",
            "no usable response, or the process died",
            "exchange.py, operations/recovery.py",
        ),
    ),
    "quarantined": (Transition("stored", "an operator completes it", "operations/recovery.py"),),
}


class Turn(NamedTuple):
    """A change of a connection's status, and the function that stores it."""

    source: str
    target: str
    cause: str
    #: A file of the package, and the function in it.
    file: str
    function: str


#: The words of Finch, "new" for a connection of which it has reported none, and "none" for no row.
TURNS = (
    Turn("none", "new", "callback", "exchange.py", "_store"),
    Turn("new", "pending", "", "storage/events.py", "apply_event"),
    Turn("pending", "processing", "", "storage/events.py", "apply_event"),
    Turn("processing", "connected", "", "connections.py", "refresh"),
    Turn("connected", "reauth", "", "connections.py", "_needs_login"),
    Turn("connected", "error_permissions", "", "storage/events.py", "apply_event"),
    Turn("connected", "error_no_account_setup", "", "storage/events.py", "apply_event"),
    Turn("connected", "disconnected", "", "storage/events.py", "apply_event"),
    Turn("reauth", "new", "begin, then the callback", "begin.py", "_renewal"),
    Turn("any", "none", "disconnect", "connections.py", "disconnect"),
)
#: Where each status is drawn: the left edge, the row and the width.
_PLACES = {
    "none": (16, 0, 116),
    "new": (228, 0, 76),
    "pending": (346, 0, 86),
    "processing": (474, 0, 100),
    "connected": (616, 0, 104),
    "reauth": (256, 1, 80),
    "error_permissions": (366, 1, 140),
    "error_no_account_setup": (536, 1, 184),
    "disconnected": (750, 1, 110),
}
_SHOWN = {"none": "no connection", "new": "None"}
RELEASED = "no record: Finch did nothing, so the code may be presented again"

#: A word about each file and folder of the package.
MEANINGS = {
    "cli": "commands",
    "testing": "fake Finch",
    "adapters": "Django, Flask, ASGI",
    "middleware": "WSGI",
    "connect": "FinchConnect",
    "assembly": "makes the pieces",
    "callback": "finishes a flow",
    "begin": "opens Connect",
    "invitations": "links by mail",
    "duplicates": "repeats",
    "binding": "which customer",
    "webhooks": "events of Finch",
    "connections": "for your code",
    "exchange": "code to token",
    "operations": "sweep, rotate",
    "web": "requests, pages",
    "finch": "HTTPS to Finch",
    "tickets": "cookie of a flow",
    "config": "options",
    "hooks": "events",
    "crypto": "keys, sealing",
    "storage": "your database",
    "attempts": "states",
    "records": "rows",
    "errors": "one tree",
    "outcomes": "how it ends",
    "secret": "hides itself",
}


def layers() -> list[list[str]]:
    """The lines of LAYERS in the architecture test, which imports obey."""
    text = (Path(__file__).parents[1] / "tests/test_architecture.py").read_text(encoding="utf-8")
    lines = text.split('LAYERS = """\n')[1].split('"""')[0].splitlines()
    named = [[each.strip() for each in line.split("|")] for line in lines]
    rows = [[name for name in names if not name.startswith("__")] for names in named]
    return [names for names in rows if names]


def sequence(steps: Sequence[Step]) -> str:
    """A sequence diagram of *steps*."""
    column, top, height = 182, 64, 46
    place = {name: 92 + number * column for number, name in enumerate(PARTICIPANTS)}
    bottom = top + height * len(steps) + 8
    parts = []
    for name, x in place.items():
        parts.append(_line(x, 44, x, bottom, kind="life"))
        parts += [_box(x - 68, 14, 136, 30), _text(x, 34, name, kind="title")]
    for number, step in enumerate(steps):
        parts += _drawn(step, place, y=top + height * number + 26)
    return _svg(place[FINCH] + 92, bottom + 12, parts)


def _drawn(step: Step, place: dict[str, int], *, y: int) -> Iterator[str]:
    start, end = place[step.source], place[step.target]
    if start == end:
        yield f'<rect class="note" x="{start - 126}" y="{y - 24}" width="252" height="38" rx="6"/>'
        yield _text(start, y - 8, step.text)
        yield _text(start, y + 8, step.file, kind="soft")
        return
    middle = (start + end) / 2
    yield _halo(middle, y - 6, step.text)
    if step.file:
        yield _halo(middle, y + 15, step.file, kind="soft")
    yield _line(start, y, end, y, kind="arrow")


def states() -> str:
    """The states of an attempt and their changes."""
    x, width, top, height = 260, 120, 24, 78
    ends = [each.target for each in TRANSITIONS["claimed"]]
    y = {name: top + height * number for number, name in enumerate(ends)}
    y["claimed"] = top + height * (len(ends) - 1) // 2
    parts = []
    for each in TRANSITIONS["claimed"]:
        at, rise = y[each.target] + 22, 8
        parts.append(_line(36 + 104, y["claimed"] + 22, x, at, kind="arrow"))
        parts.append(_text(x + width + 16, at - rise + 4, each.cause, anchor="start"))
        parts.append(_text(x + width + 16, at + 13, each.file, kind="soft", anchor="start"))
    for each in TRANSITIONS["quarantined"]:
        parts.append(_line(x + 60, y["quarantined"], x + 60, y[each.target] + 44, kind="arrow"))
        middle = (y["quarantined"] + y[each.target] + 44) / 2 + 4
        parts.append(
            _text(x + 72, middle, f"{each.cause}, {each.file}", kind="soft", anchor="start")
        )
    for name in AttemptState:
        left, wide = (36, 104) if name == "claimed" else (x, width)
        parts += [
            _box(left, y[name], wide, 44),
            _text(left + wide / 2, y[name] + 27, name, "title"),
        ]
    bottom = top + height * len(ends)
    parts.append(_text(36, bottom + 4, f"claimed → {RELEASED}", kind="soft", anchor="start"))
    return _svg(730, bottom + 24, parts)


def life() -> str:
    """The statuses of a connection and their changes."""
    parts = []
    for turn in TURNS:
        if turn.source == "any":
            continue
        (x1, row1, wide1), (x2, row2, wide2) = _PLACES[turn.source], _PLACES[turn.target]
        if row1 == row2:
            start, end = (x1 + wide1, 52), (x2, 52)
        else:
            start = (x1 + wide1 / 2, 74 if row1 == 0 else 150)
            end = (x2 + wide2 / 2, 150 if row2 == 1 else 74)
        parts.append(_line(*start, *end, kind="arrow"))
        if turn.cause:
            x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
            parts.append(_halo(x if row1 == row2 else x - 86, y - 6, turn.cause, kind="soft"))
    for name, (x, row, wide) in _PLACES.items():
        y = 30 + 120 * row
        parts += [_box(x, y, wide, 44)]
        parts.append(_text(x + wide / 2, y + 27, _SHOWN.get(name, name), kind="title"))
    reported = "other arrows: Finch reports it, in a webhook, to refresh or to a call of the SDK"
    parts.append(_text(16, 246, reported, kind="soft", anchor="start"))
    [end] = [turn for turn in TURNS if turn.source == "any"]
    bottom = f"any status → {_SHOWN[end.target]}: {end.cause}"
    parts.append(_text(16, 224, bottom, kind="soft", anchor="start"))
    return _svg(876, 262, parts)


def architecture() -> str:
    """The files and folders of the package, in layers."""
    parts: list[str] = []
    rows = layers()
    for row, names in enumerate(rows):
        for number, name in enumerate(names):
            x, y = 44 + number * 164, 16 + row * 54
            parts += [_box(x, y, 152, 42), _text(x + 76, y + 18, name, kind="title")]
            parts.append(_text(x + 76, y + 34, MEANINGS[name], kind="soft"))
    bottom = 16 + len(rows) * 54
    parts.append(_line(24, 16, 24, bottom - 14, kind="arrow"))
    return _svg(44 + 164 * max(map(len, rows)), bottom, parts)


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    )
    ground = f'<rect class="ground" width="{width}" height="{height}" rx="12"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", _HEAD, ground, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _halo(x: float, y: float, text: str, kind: str = "") -> str:
    """A text that hides the lines behind it."""
    width = len(text) * (6.1 if kind else 6.6) + 8
    back = (
        f'<rect class="ground" x="{x - width / 2:g}" y="{y - 12:g}" width="{width:g}" height="16"/>'
    )
    return back + _text(x, y, text, kind)


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>'


def _line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> str:
    head = ' marker-end="url(#head)"' if kind == "arrow" else ""
    return f'<path class="{kind}" d="M{x1:g} {y1:g} {x2:g} {y2:g}"{head}/>'


def diagrams() -> dict[str, str]:
    """Each diagram by the name of its file."""
    flows = {f"{name}.svg": sequence(steps) for name, steps in FLOWS.items()}
    return {
        "architecture.svg": architecture(),
        **flows,
        "attempt.svg": states(),
        "connection.svg": life(),
    }


if __name__ == "__main__":
    for name, drawing in diagrams().items():
        (IMAGES / name).write_text(drawing, encoding="utf-8")
