"""Pages that a browser test opens, served by an application of the test's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finch_middleware import Customer, FinchConnect, FinchMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
from tests.site import options_for

BEGIN, CALLBACK = "/connect", "/finch/callback"
_KINDS = {".js": "text/javascript", ".html": "text/html; charset=utf-8"}


class Files:
    """
    An application that answers with files and texts by their path.

    Attributes:
        pages: Path: what stands there. Set it when the addresses are known.
        policy: The Content-Security-Policy of all of them, where there is one.
    """

    def __init__(self) -> None:
        self.pages: Mapping[str, str | Path] = {}
        self.policy: str | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        found = self.pages.get(path)
        if found is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b""]
        kind = _KINDS[Path(path).suffix or ".html"]
        headers = [("Content-Type", kind)]
        if self.policy is not None:
            headers.append(("Content-Security-Policy", self.policy))
        start_response("200 OK", headers)
        return [found.encode() if isinstance(found, str) else found.read_bytes()]


class Latecomer:
    """An application that is made once its address is known."""

    def __init__(self) -> None:
        self.app: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert self.app is not None
        return self.app(environ, start_response)


def connected(fake: FakeFinch, address: str, app: WSGIApplication, **options: Any) -> Any:
    """*app* with the middleware around it, where Acme Inc. is signed in always."""
    given = {
        "key": new_key("k1"),
        "begin_path": BEGIN,
        "customer_of": lambda request: Customer(id="acme", name="Acme Inc."),
        **options,
    }
    finch = FinchConnect(**options_for(fake, address + CALLBACK, **given))
    return FinchMiddleware(app, finch)
