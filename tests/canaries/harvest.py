"""Everything that a scenario leaves behind where a person, a tool or a thief may read it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import pickle
import traceback
from collections.abc import Iterator
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
        self.lines.append(f"{record.getMessage()} {record.__dict__!r}")
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
)


def told_by(error: BaseException) -> str:
    """What a report with locals tells of *error*, its causes, and what it happened during."""
    seen: list[BaseException] = []
    told: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        told += ["".join(traceback.format_exception_only(each)), repr(each), repr(vars(each))]
        told += [_locals_of(frame) for frame in _frames(each.__traceback__)]
        waiting += [each.__cause__, each.__context__]
    return "\n".join(told)


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
    """Its repr, str, format, vars, fields, copies and pickle."""
    told = [repr(thing), str(thing), f"{thing}", ascii(thing), repr([thing]), repr(dir(thing))]
    with contextlib.suppress(TypeError):
        told.append(repr(vars(thing)))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        told.append(repr({f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}))
    for copied in (copy.copy, copy.deepcopy):
        # What cannot be copied tells nothing, but how it says so.
        try:
            told.append(repr(copied(thing)))
        except Exception as error:  # whatever a class refuses with
            told.append(repr(error))
    return "\n".join(told).encode("utf-8", "surrogatepass") + _pickled(thing)


def _pickled(thing: Any) -> bytes:
    try:
        return pickle.dumps(thing)
    except Exception as error:  # whatever a class refuses with
        return repr(error).encode()


def files_of(folder: Path) -> bytes:
    """Names and contents of every file: databases with their logs, the spool."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\n".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
