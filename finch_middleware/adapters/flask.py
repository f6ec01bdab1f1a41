"""Flask: an extension object for application factories and blueprints; see docs/frameworks.md."""

from __future__ import annotations

from typing import Unpack, cast

from flask import Flask, current_app

from finch_middleware.config.customers import Customers
from finch_middleware.config.options import Options
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import Unavailable, UsageError
from finch_middleware.middleware import FinchMiddleware
from finch_middleware.web.request import CallbackRequest

_NAME = "finch_middleware"


class Finch:
    """
    One object for any number of applications; each has a component of its own.

    It holds nothing: the component is in ``app.extensions["finch_middleware"]``.
    """

    def init_app(self, app: Flask, **options: Unpack[Options]) -> FinchConnect:
        """
        Make the component of *app*, and put `FinchMiddleware` in front of its `wsgi_app`.

        The options come from *options*, then from ``app.config["FINCH"]``, a dict, then from the
        ``FINCH_…`` variables. `customer_of` is called in a request context of *app*, so it may
        use `session`, and `current_user` of Flask-Login. An `Unavailable` that a view lets pass
        becomes its page.

        Raises:
            ConfigurationError: Lists everything that is wrong with the options.
            UsageError: *app* has a component already.
        """
        if _NAME in app.extensions:
            raise UsageError("init_app was called a second time for this application")
        # Taken out of this frame: a traceback with locals would show the client secret.
        given = [cast("Options", {**app.config.get("FINCH", {}), **options})]
        cast("dict[str, object]", options).clear()
        component = FinchConnect.from_env(**_with_context(app, given.pop()))
        app.extensions[_NAME] = component
        # Flask's documented way to add a middleware; its stubs declare a method.
        app.wsgi_app = FinchMiddleware(app.wsgi_app, component)  # type: ignore[method-assign]  # as Flask's manual does
        app.register_error_handler(Unavailable, lambda error: error.response())
        return component

    def __call__(self) -> FinchConnect:
        """
        The component of the current application.

        Raises:
            RuntimeError: There is no application context.
            UsageError: `init_app` was not called for this application.
        """
        component = current_app.extensions.get(_NAME)
        if not isinstance(component, FinchConnect):
            raise UsageError("call init_app for this application first")
        return component


def _with_context(app: Flask, options: Options) -> Options:
    """*options*, where `customer_of` is called in a request context of *app*."""
    customer_of = options.get("customer_of")
    if not callable(customer_of):
        return options  # nothing, or what FinchConnect refuses in words

    def in_context(request: CallbackRequest) -> Customers:
        # A copy, so that Flask changes nothing in the server's own environ.
        with app.request_context(dict(request.environ)):
            return customer_of(request)

    return {**options, "customer_of": in_context}
