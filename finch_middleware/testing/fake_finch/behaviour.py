"""One way to respond to a request."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

from werkzeug.wrappers import Response

from finch_middleware.testing.fake_finch.responses import error_response, json_response

Garbage = Literal["html", "text", "empty", "array", "number", "deep", "duplicate", "infinite"]

_GARBAGE: dict[str, tuple[str, bytes]] = {
    "html": ("text/html", b"<!doctype html><title>Sign in to the hotel's network</title>"),
    "text": ("text/plain", b"OK"),
    "empty": ("application/json", b""),
    "array": ("application/json", b'[{"access_token": "in-an-array"}]'),
    "number": ("application/json", b"42"),
    "deep": ("application/json", b"[" * 60_000),
    "duplicate": ("application/json", b'{"access_token": "first", "access_token": "second"}'),
    "infinite": ("application/json", b'{"access_token": 1e400, "products": [NaN]}'),
}
_BLOCK = b"\0" * 65_536


class Gate(Protocol):
    """A `threading.Event`, a `multiprocessing.Event` or the like."""

    def is_set(self) -> bool:
        """Whether the waiting request continues."""


class Ending(Enum):
    """What happens to the TCP connection after the response, or a part of it, was sent."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


Part = Literal["headers", "body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """
    How to respond to one request; an argument of `FakeFinch.script`.

    The class methods make the usual ones; `after` and `held` add a wait. With *processed* True,
    Finch acts on the request (issues the token, opens the session) and only its response is
    lost; with False, it does not act.

    Attributes:
        processed: Whether Finch acts on the request.
        delay_seconds: The wait before it acts.
        gate: What it waits for before it acts.
        shape: Turns Finch's normal response into the one that is sent.
        cut_at: How many bytes of the response are sent, headers included; None for all.
        ending: What happens to the connection then.
        drip: The part that is sent byte by byte.
        pace_seconds: The time between two of these bytes.
    """

    processed: bool = True
    delay_seconds: float = 0
    gate: Gate | Path | None = None
    shape: Callable[[Response], Response] = lambda response: response
    cut_at: int | None = None
    ending: Ending = Ending.KEEP
    drip: Part | None = None
    pace_seconds: float = 0

    @property
    def released(self) -> bool:
        """Whether the gate is open: its event is set, or its file exists."""
        if self.gate is None:
            return True
        return self.gate.exists() if isinstance(self.gate, Path) else self.gate.is_set()

    def after(self, seconds: float) -> Behaviour:
        """The same, *seconds* later."""
        return dataclasses.replace(self, delay_seconds=seconds)

    def held(self, until: Gate | Path) -> Behaviour:
        """The same, once the event is set or the file exists."""
        return dataclasses.replace(self, gate=until)

    @classmethod
    def delay(cls, seconds: float) -> Behaviour:
        """Normal, *seconds* later."""
        return cls(delay_seconds=seconds)

    @classmethod
    def hold(cls, until: Gate | Path) -> Behaviour:
        """Normal, once the event is set or the file exists."""
        return cls(gate=until)

    @classmethod
    def error(
        cls,
        status: int,
        *,
        name: str | None = None,
        message: str | None = None,
        finch_code: str | None = None,
        headers: Mapping[str, str] | None = None,
        processed: bool = False,
        **more: object,
    ) -> Behaviour:
        """An error in Finch's form; *more* are further fields of its body."""

        def shape(response: Response) -> Response:
            changed = error_response(
                status, name=name, message=message, finch_code=finch_code, **more
            )
            changed.headers.update(headers or {})
            return changed

        return cls(processed=processed, shape=shape)

    @classmethod
    def response(
        cls,
        body: bytes | str,
        *,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        processed: bool = False,
    ) -> Behaviour:
        """Any response."""

        def shape(response: Response) -> Response:
            return Response(body, status=status, content_type=content_type, headers=headers)

        return cls(processed=processed, shape=shape)

    @classmethod
    def garbage(cls, kind: Garbage = "html", *, processed: bool = True) -> Behaviour:
        """A 200 that does not follow Finch's API."""
        content_type, body = _GARBAGE[kind]
        return cls.response(body, content_type=content_type, processed=processed)

    @classmethod
    def redirect(cls, to: str, *, status: int = 307) -> Behaviour:
        """A redirect to *to*, which a client must not follow with its secret."""
        return cls.response(b"", status=status, headers={"Location": to})

    @classmethod
    def alter(cls, **fields: object) -> Behaviour:
        """Normal, with these fields of a success replaced or added."""
        return cls(shape=lambda response: _edited(response, fields, frozenset()))

    @classmethod
    def without(cls, *names: str) -> Behaviour:
        """Normal, without these fields of a success."""
        return cls(shape=lambda response: _edited(response, {}, frozenset(names)))

    @classmethod
    def huge(cls, body_bytes: int, *, declared: bool = True) -> Behaviour:
        """A 200 with a body of *body_bytes*, made in blocks, with or without a length."""

        def shape(response: Response) -> Response:
            huge = Response(_zeros(body_bytes), content_type="application/json")
            if declared:
                huge.content_length = body_bytes
            return huge

        return cls(shape=shape, ending=Ending.KEEP if declared else Ending.CLOSE)

    @classmethod
    def gzipped(cls, *, padding_bytes: int = 0) -> Behaviour:
        """Normal, but compressed; with *padding_bytes* blanks it is a decompression bomb."""

        def shape(response: Response) -> Response:
            response.set_data(gzip.compress(response.get_data() + b" " * padding_bytes))
            response.headers["Content-Encoding"] = "gzip"
            return response

        return cls(shape=shape)

    @classmethod
    def drip_headers(cls, *, pace_seconds: float = 0.05) -> Behaviour:
        """Normal, with the status line and headers sent byte by byte."""
        return cls(drip="headers", pace_seconds=pace_seconds)

    @classmethod
    def drip_body(cls, *, pace_seconds: float = 0.05) -> Behaviour:
        """Normal, with the body sent byte by byte."""
        return cls(drip="body", pace_seconds=pace_seconds)

    @classmethod
    def stall(cls, *, after_bytes: int = 0, processed: bool = False) -> Behaviour:
        """Read the request, send *after_bytes* of the response, then nothing more."""
        return cls(processed=processed, cut_at=after_bytes, ending=Ending.STALL)

    @classmethod
    def reset(cls, *, after_bytes: int = 0, processed: bool = False) -> Behaviour:
        """Read the request, send *after_bytes* of the response, then a TCP reset."""
        return cls(processed=processed, cut_at=after_bytes, ending=Ending.RESET)

    @classmethod
    def close(cls, *, after_bytes: int = 0, processed: bool = False) -> Behaviour:
        """Read the request, send *after_bytes* of the response, then an orderly close."""
        return cls(processed=processed, cut_at=after_bytes, ending=Ending.CLOSE)

    @classmethod
    def hang_up(cls) -> Behaviour:
        """Normal, but the connection is closed afterwards without a ``Connection: close``."""
        return cls(ending=Ending.CLOSE)


def _edited(response: Response, fields: Mapping[str, object], gone: frozenset[str]) -> Response:
    if response.status_code >= 400:
        return response
    changed = json.loads(response.get_data()) | fields
    kept = {name: value for name, value in changed.items() if name not in gone}
    return json_response(kept, status=response.status_code)


def _zeros(count: int) -> Iterator[bytes]:
    for _ in range(count // len(_BLOCK)):
        yield _BLOCK
    yield _BLOCK[: count % len(_BLOCK)]
