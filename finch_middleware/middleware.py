"""WSGI: the callback and the begin path are ours, everything else is the application's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from finch_middleware.connect import FinchConnect

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class FinchMiddleware:
    """
    Answers the callback and the begin path, forwards all else with the very same objects.

    Own is what has exactly such a path as PATH_INFO, under whatever SCRIPT_NAME.
    Construction does no I/O.

    Attributes:
        finch: The component that answers.
    """

    __slots__ = ("_app", "_paths", "finch")

    def __init__(self, app: WSGIApplication, finch: FinchConnect) -> None:
        self._app = app
        self._paths = finch.paths
        self.finch = finch

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""
        answer = self._paths.get(environ.get("PATH_INFO", ""))
        if answer is None:
            return self._app(environ, start_response)
        return answer(environ)(environ, start_response)
