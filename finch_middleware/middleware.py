"""WSGI: responds at the paths of the component, and forwards everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from finch_middleware.connect import FinchConnect, require_order

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class FinchMiddleware:
    """
    Responds at the component's own paths; forwards everything else unchanged.

    Only requests whose PATH_INFO equals one of `finch.paths`, under any SCRIPT_NAME, are handled
    here: the callback, and `begin_path` and `invite_path` where they are set.
    Construction does no I/O.

    Attributes:
        finch: The component that responds.

    Raises:
        UsageError: The arguments are in the wrong order, or *finch* is no component.
    """

    __slots__ = ("_app", "_paths", "finch")

    def __init__(self, app: WSGIApplication, finch: FinchConnect) -> None:
        require_order(app, finch, middleware="FinchMiddleware")
        self._app = app
        self._paths = finch.paths
        self.finch = finch

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""
        respond = self._paths.get(environ.get("PATH_INFO", ""))
        if respond is None:
            return self._app(environ, start_response)
        return respond(environ)(environ, start_response)
