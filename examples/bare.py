"""What a framework brings and bare WSGI does not: a session, a form, an answer."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from shared import forged
from werkzeug.http import dump_cookie
from werkzeug.wrappers import Request

Session = dict[str, str]


class SignedSessions:
    """
    Gives the application its visitor's session as ``environ["session"]``.

    There is always a ``csrf_token`` in it, a new one after `clear`.
    """

    def __init__(self, app: WSGIApplication, *, key: bytes) -> None:
        self._app = app
        self._key = key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        cookies = Request(environ, populate_request=False).cookies
        found = self._read(cookies.get("session", ""))
        session = environ["session"] = {"csrf_token": secrets.token_urlsafe(), **found}

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if session != found:
                headers = [*headers, ("Set-Cookie", self._cookie(session))]
            return start_response(status, headers, *rest)

        return self._app(environ, start)

    def _read(self, text: str) -> Session:
        content, _, signature = text.partition(".")
        if forged(signature, expected=self._signature(content)):
            return {}
        session: Session = json.loads(base64.urlsafe_b64decode(content))
        return session

    def _cookie(self, session: Session) -> str:
        content = base64.urlsafe_b64encode(json.dumps(session).encode()).decode()
        signed = f"{content}.{self._signature(content)}"
        return dump_cookie("session", signed, httponly=True, samesite="Lax")

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), "sha256").hexdigest()


def query_of(environ: WSGIEnvironment) -> dict[str, str]:
    """What the address says behind its question mark."""
    return dict(parse_qsl(environ.get("QUERY_STRING", "")))


def form_of(environ: WSGIEnvironment) -> dict[str, str]:
    """What a form has sent; nothing, if nothing was sent."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return dict(parse_qsl(body.decode(errors="replace")))


def answer(status: str, *, body: str = "", location: str | None = None) -> WSGIApplication:
    """A page, or the way to another one."""
    headers = [("Content-Type", "text/html; charset=utf-8")]
    if location is not None:
        headers.append(("Location", location))

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, headers)
        return [body.encode()]

    return respond
