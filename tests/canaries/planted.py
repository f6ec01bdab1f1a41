"""For each way to look, a secret that this way alone shows: the control of the search."""

from __future__ import annotations

import logging
import secrets
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPMessage
from typing import Any

from finch_middleware import Event
from tests.canaries.scene import Scene
from tests.site import Answer

SECRET = "s3cr3t/+Token-of_canary 42"


class _Closed:
    """Shows nothing of itself, whoever looks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "closed"

    def __format__(self, spec: str) -> str:
        return "closed"

    def __copy__(self) -> object:
        return self

    def __deepcopy__(self, memo: object) -> object:
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("closed")


class _Repr(_Closed):
    def __repr__(self) -> str:
        return SECRET


class _Str(_Closed):
    def __str__(self) -> str:
        return SECRET


class _Format(_Closed):
    def __format__(self, spec: str) -> str:
        return SECRET


class _Dir(_Closed):
    def __dir__(self) -> list[str]:
        return [SECRET]


class _Vars(_Closed):
    def __init__(self) -> None:
        self.kept = SECRET


@dataclass(repr=False, slots=True)
class _Fields(_Closed):
    kept: str = SECRET


class _Copy(_Closed):
    def __copy__(self) -> object:
        return SECRET


class _Deepcopy(_Closed):
    def __deepcopy__(self, memo: object) -> object:
        return SECRET


class _Pickle(_Closed):
    def __reduce_ex__(self, protocol: object) -> Any:
        return str, (SECRET,)


#: By the view that alone shows it. What has a repr has a str and copies that show it as well.
OBJECTS: dict[str, Callable[[], object]] = {
    "repr": _Repr,
    "str": _Str,
    "format": _Format,
    "dir": _Dir,
    "vars": _Vars,
    "fields": _Fields,
    "copy": _Copy,
    "deepcopy": _Deepcopy,
    "pickle": _Pickle,
}


def _raised(source: str) -> Exception:
    """What *source* raises as a file of an application: a frame of a test is not looked into."""
    try:
        exec(compile(source, "/srv/shop/views.py", "exec"), {"SECRET": SECRET})
    except Exception as error:  # whatever it raises
        return error
    raise AssertionError("nothing was raised")


_LOCAL = """
def view(code):
    raise LookupError('quiet')
view(SECRET)
"""
_ATTRIBUTE = """
error = LookupError('quiet')
error.kept = SECRET
del SECRET
raise error
"""
_CAUSE = "raise LookupError('quiet') from ValueError(SECRET)"
_CONTEXT = """
try:
    raise ValueError(SECRET)
except ValueError:
    raise LookupError('quiet')
"""

#: By the part of a report of an error that alone shows it.
ERRORS: dict[str, Callable[[], Exception]] = {
    "message": lambda: LookupError(SECRET),
    "attribute": lambda: _without_trace(_raised(_ATTRIBUTE)),
    "local": lambda: _raised(_LOCAL).with_traceback(_inner(_raised(_LOCAL))),
    "cause": lambda: _without_trace(_raised(_CAUSE)),
    "context": lambda: _without_trace(_raised(_CONTEXT)),
}


def _without_trace(error: Exception) -> Exception:
    return error.with_traceback(None)


def _inner(error: Exception) -> Any:
    """The innermost part of its trace: the module's own frame has the name SECRET, too."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _log(message: str, *arguments: object, **more: Any) -> None:
    logging.getLogger("shop.views").debug(message, *arguments, **more)


def _caused_by(cause: Exception) -> Exception:
    error = LookupError("quiet")
    error.__cause__ = cause
    return error


def _answer(*, header: str = "quiet", body: str = "quiet") -> Answer:
    headers = HTTPMessage()
    Message.__setitem__(headers, "X-Planted", header)
    return Answer(200, headers, body.encode())


def _file(scene: Scene, *, name: str = "left", text: str) -> None:
    (scene.folder / f"{name}-{secrets.token_hex(4)}").write_text(f"before{text}after")


#: Place in what a scene leaves, and what about it: how a text comes there.
PLACES: dict[tuple[str, str], Callable[[Scene, str], object]] = {
    ("log", "message"): lambda scene, text: _log(text),
    ("log", "argument"): lambda scene, text: _log("%s", text),
    ("log", "parts"): lambda scene, text: _log("%s%s", text[:3], text[3:]),
    ("log", "extra"): lambda scene, text: _log("quiet", extra={"planted": text}),
    ("log", "trace"): lambda scene, text: _log("quiet", exc_info=_caused_by(LookupError(text))),
    ("errors", "raised"): lambda scene, text: scene.errors.append(LookupError(text)),
    ("errors", "escaped"): lambda scene, text: scene.site.errors.append(LookupError(text)),
    ("answers", "header"): lambda scene, text: scene.answers.append(_answer(header=text)),
    ("answers", "body"): lambda scene, text: scene.answers.append(_answer(body=text)),
    ("events", "reason"): lambda scene, text: scene.site.events.append(_event(text)),
    ("printed", "stdout"): lambda scene, text: sys.stdout.write(text + "\n"),
    ("printed", "stderr"): lambda scene, text: sys.stderr.write(text + "\n"),
    ("warnings", "text"): lambda scene, text: warnings.warn(text, stacklevel=2),
    ("files", "content"): lambda scene, text: _file(scene, text=text),
    ("objects", "kept"): lambda scene, text: scene.things.append(text),
}


def _event(text: str) -> Event:
    return Event(name="finch.planted", level=10, client_id="client", reason=text)
