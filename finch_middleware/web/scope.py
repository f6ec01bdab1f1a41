"""An ASGI scope in the form of a WSGI environ."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]


def path_info(scope: Scope) -> str:
    """The path below the mount point in the form of WSGI: UTF-8 bytes read as latin-1."""
    path, root = scope["path"], scope.get("root_path", "")
    # Some servers leave root_path out of path, against the specification.
    if root and path.startswith(root + "/"):
        path = path[len(root) :]
    return _as_wsgi(path)


def _as_wsgi(text: str) -> str:
    # A path may hold lone surrogates, which UTF-8 cannot encode. The application decides about it.
    return text.encode(errors="surrogatepass").decode("latin-1")


def environ_of(scope: Scope) -> dict[str, Any]:
    """
    A WSGI environ (PEP 3333) with what the component reads of a request, except the body.

    The scope itself is under ``asgi.scope``, so that `customer_of` can read a Starlette session.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _as_wsgi(scope.get("root_path", "")),
        "PATH_INFO": path_info(scope),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "asgi.scope": scope,
    }
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return environ | in_environ(pairs)


def in_environ(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What an environ has of these headers."""
    environ: dict[str, str] = {}
    for name, value in headers:
        # As WSGI servers do: X_Remote_User would be taken for a trusted proxy's X-Remote-User.
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        # HTTP/2 splits the Cookie header; any other repeated header is a list.
        separator = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{separator}{value}" if key in environ else value
    return environ
