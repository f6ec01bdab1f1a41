"""Everything that a scenario leaves behind where a person, a tool or a thief may read it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

#: Frames of the test and of the server that carries the request: they hold it by nature.
_NOT_OURS = ("/tests/", "/finch_middleware/testing/", "/werkzeug/serving", "/socketserver")


class Logged(logging.Handler):
    """Keeps what any handler could write of a record, its exception with all locals included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = [record.getMessage(), repr(record.__dict__), *map(str, record.__dict__.values())]
        self.lines.append(" ".join(facts))
        if record.exc_info and record.exc_info[1] is not None:
            self.lines.append(told_by(record.exc_info[1]))


@contextlib.contextmanager
def everything_logged() -> Iterator[Logged]:
    """Every logger of every library at DEBUG, kept."""
    handler, root = Logged(), logging.getLogger()
    named = [logging.getLogger(name) for name in (*logging.root.manager.loggerDict,)]
    loggers = [root, *named, *map(logging.getLogger, _LIBRARIES)]
    before = [(each, each.level, each.disabled, each.propagate) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.disabled, each.propagate = False, True
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        for each, level, disabled, propagate in before:
            each.setLevel(level)
            each.disabled, each.propagate = disabled, propagate


_LIBRARIES = (
    "finch_middleware",
    "requests",
    "urllib3",
    "urllib3.connectionpool",
    "sqlalchemy",
    "sqlalchemy.engine",
    "sqlalchemy.engine.Engine",
    "sqlalchemy.pool",
    "werkzeug",
    "http.client",
    "psycopg",
    "psycopg.pool",
    "pymysql",
    "redis",
)


def told_by(error: BaseException) -> str:
    """What a report with locals tells of *error*, its causes, and what it happened during."""
    seen: list[BaseException] = []
    facts: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        facts += ["".join(traceback.format_exception_only(each)), repr(vars(each))]
        facts += [_locals_of(frame) for frame in _frames(each.__traceback__)]
        waiting += [each.__cause__, each.__context__]
    return "\n".join(facts)


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        frame = trace.tb_frame
        if not any(part in frame.f_code.co_filename for part in _NOT_OURS):
            yield frame
        trace = trace.tb_next


def _locals_of(frame: FrameType) -> str:
    shown = {name: repr(v) for name, v in frame.f_locals.items() if not _is_environ(v)}
    return f"{frame.f_code.co_name}: {shown}"


def _is_environ(value: object) -> bool:
    """A WSGI environ is the server's, and stands in the frames of whoever handled the request."""
    return isinstance(value, dict) and "wsgi.input" in value


def told_by_object(thing: Any) -> bytes:
    """All that its views show."""
    return b"\n".join(look(thing) for look in VIEWS.values())


def _text(look: Callable[[Any], object]) -> Callable[[Any], bytes]:
    """What *look* makes of a thing, or how the thing refuses to be looked at so."""

    def facts(thing: Any) -> bytes:
        try:
            seen = look(thing)
        except Exception as refusal:  # whatever a class refuses with
            seen = repr(refusal)
        return seen if isinstance(seen, bytes) else str(seen).encode("utf-8", "surrogatepass")

    return facts


def _fields(thing: Any) -> str:
    return repr({each.name: getattr(thing, each.name) for each in dataclasses.fields(thing)})


#: The ways in which a tool, a log or a colleague looks into an object.
VIEWS: dict[str, Callable[[Any], bytes]] = {
    "repr": _text(repr),
    "str": _text(str),
    "format": _text(lambda thing: f"{thing}"),
    "dir": _text(lambda thing: repr(dir(thing))),
    "vars": _text(lambda thing: repr(vars(thing))),
    "fields": _text(_fields),
    "copy": _text(lambda thing: repr(copy.copy(thing))),
    "deepcopy": _text(lambda thing: repr(copy.deepcopy(thing))),
    "pickle": _text(pickle.dumps),
}


def files_of(folder: Path) -> bytes:
    """Names and contents of every file: databases with their logs, the spool."""
    found = []
    for path in sorted(folder.rglob("*")):
        # A server may remove one meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append(str(path.relative_to(folder)).encode() + path.read_bytes())
    return b"\n".join(found)


def written_by(server: Iterable[Path]) -> bytes:
    """The files that a server writes of what it is told: its log of statements, its journal."""
    return b"\n".join(files_of(place) for place in server)
