"""WSGI: responds at the component's own paths, and forwards everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from finch_middleware.connect import FinchConnect
from finch_middleware.errors import UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class FinchMiddleware:
    """
    Responds where PATH_INFO is one of `finch.paths`; forwards everything else unchanged.

    Construction does no I/O. `finch` is the component that responds.

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


def require_order(app: object, finch: object, *, middleware: str) -> None:
    """Raise UsageError unless *finch* is a component, and *app* is what the middleware wraps."""
    if not isinstance(finch, FinchConnect) or isinstance(app, FinchConnect):
        raise UsageError(
            f"write {middleware}(app, finch): the application comes first, a FinchConnect second; "
            f"found a {type(app).__name__} and a {type(finch).__name__}"
        )
