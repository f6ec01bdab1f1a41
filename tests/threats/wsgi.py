"""A WSGI server in this process, fast enough for a million requests."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What an application answered; headers as it gave them."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for each, value in self.headers if each.lower() == name.lower()]

    @property
    def location(self) -> str:
        return (self.all("Location") or [""])[0]

    @property
    def whole(self) -> bytes:
        """Everything that leaves, as one text to search."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return lines.encode("latin-1", "replace") + self.body


def environ_of(
    path: str,
    *,
    method: str = "GET",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    script_name: str = "",
) -> dict[str, Any]:
    """A request as PEP 3333 has it, headers by their HTTP names."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body or b""),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if body is not None:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return environ


def call(app: Any, environ: dict[str, Any]) -> Answered:
    """The answer of *app*; its iterable is closed."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        begun.append((status, headers))
        return lambda data: None

    chunks: Iterable[bytes] = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    [(status, headers)] = begun
    return Answered(status=int(status[:3]), headers=headers, body=body)
