"""
Django: views for the component's own paths, and system checks; see docs/frameworks.md.

These are views and not a middleware around `wsgi.py`, because Django's test client and live server
do not use that file, and a view can read the session.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Collection, Container, Iterator
from http.cookies import Morsel
from typing import Any, cast

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt
from werkzeug.wrappers import Response

from finch_middleware.config.options import Options
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import ConfigurationError
from finch_middleware.storage.forks import PerProcess

CustomerOf = Callable[[HttpRequest], str | Collection[str] | None]
View = Callable[[HttpRequest], HttpResponse]
Component = FinchConnect | Callable[[], FinchConnect]

_lock = PerProcess(threading.Lock)


def finch() -> FinchConnect:
    """The one component that ``settings.FINCH`` describes, made when first asked for."""
    with _lock[os.getpid()]:  # two components would have two memory storages
        return _component()


@functools.cache
def _component() -> FinchConnect:
    # Never in a local: a traceback with locals would show the client secret and the key.
    if not isinstance(getattr(settings, "FINCH", None), dict):
        raise ConfigurationError(["settings.FINCH: must be a dict of FinchConnect's options"])
    return FinchConnect(**cast("Options", {**_more_options(), **settings.FINCH}))


def _more_options() -> Options:
    """Those of the installed `FinchConfig`, if there is one."""
    configs = (each for each in apps.get_app_configs() if isinstance(each, FinchConfig))
    return next((each.more_options() for each in configs), Options())


@receiver(setting_changed)
def _forget(*, setting: str, **kwargs: object) -> None:
    """Let a test with `override_settings(FINCH=...)` get a component of those settings."""
    if setting == "FINCH":
        _component.cache_clear()


def callback(component: Component = finch, *, customer_of: CustomerOf | None = None) -> View:
    """
    The view of the callback path.

    *component* may be a function, which is called at each request. The URLconf then loads
    even with a wrong setting, and ``manage.py check`` reports it.
    *customer_of* returns the customers that Django's request may act for, or None for a person
    who is signed out. Without it, the component's own `customer_of` is used, if it has one.
    """

    def respond(finch: FinchConnect, request: HttpRequest) -> Response:
        if customer_of is None:
            return finch.callback(request)
        return finch.callback(request, customer_id=customer_of(request))

    # Finch Connect's return has no Django token. The component checks the flow's ticket, and that
    # a POST comes from the application's own origin. Django's LoginRequiredMiddleware would
    # redirect to the login page, with the code in ?next=.
    return _view(component, respond)


def begin(component: Component = finch) -> View:
    """
    The view of the begin path: a GET shows a button, its POST redirects to Finch Connect.

    It needs `customer_of`, which gets a `CallbackRequest` with ``request.META`` as its
    ``environ``, and `begin_path`, so that ``manage.py check`` can report a missing view.
    """
    # The form may come without a Django token: the component refuses a POST that does not come
    # from a page of the application's own origin.
    return _view(component, FinchConnect.begin_page, login_required=True)


def invite(component: Component = finch) -> View:
    """The view of `invite_path`, for people with an invitation; they need not be signed in."""
    # As for `begin`; and an invited person has no login.
    return _view(component, FinchConnect.invite_page)


def webhook(component: Component = finch) -> View:
    """The view of `webhook_path`, where Finch delivers webhooks."""
    # Finch has no Django token and no session. The component checks Finch's signature.
    return _view(component, FinchConnect.webhook)


def _view(
    component: Component,
    respond: Callable[[FinchConnect, HttpRequest], Response],
    *,
    login_required: bool = False,
) -> View:
    @csrf_exempt
    def finch_view(request: HttpRequest) -> HttpResponse:
        finch = component if isinstance(component, FinchConnect) else component()
        return to_django(respond(finch, request))

    cast("Any", finch_view).login_required = login_required
    return finch_view


def to_django(response: Response) -> HttpResponse:
    """The same response as one of Django, every cookie byte for byte."""
    with response:
        converted = HttpResponse(response.get_data(), status=response.status_code)
    if "Content-Type" not in response.headers:
        del converted.headers["Content-Type"]
    for name, _ in response.headers:
        if name.lower() != "set-cookie":
            converted.headers[name] = ", ".join(response.headers.getlist(name))
    for header in response.headers.getlist("Set-Cookie"):
        cookie = _Cookie(header)
        # Django sends the values alone, so a second cookie of one name may have another key.
        taken = cookie.key in converted.cookies
        converted.cookies[header if taken else cookie.key] = cookie
    return converted


class _Cookie(Morsel[str]):
    """
    One Set-Cookie header, sent unchanged unless Django's code changes the cookie afterwards.

    `SimpleCookie.load` would drop a cookie with an unknown attribute, and quote an empty value.
    """

    #: The header, and how Django would send it; a pickled cookie has neither.
    _given: tuple[str, str | None] = ("", None)

    def __init__(self, header: str) -> None:
        super().__init__()
        first, *attributes = (part.strip() for part in header.split(";"))
        name, _, value = first.partition("=")
        self.set(name, value, value)
        for attribute in attributes:
            word, equals, text = attribute.partition("=")
            if self.isReservedKey(word):
                self[word] = text if equals else True
        self._given = header, super().OutputString()

    def OutputString(self, attrs: Container[str] | None = None) -> str:
        header, unchanged = self._given
        current = super().OutputString(attrs)
        return header if current == unchanged else current


class FinchConfig(AppConfig):
    """
    The entry for INSTALLED_APPS: with it, ``manage.py check`` checks ``settings.FINCH``.

    Leave it out if the application makes its own component and has no such setting.
    """

    name = "finch_middleware.adapters.django"
    label = "finch_middleware"
    verbose_name = "Finch Connect"

    def more_options(self) -> Options:
        """
        Options for a subclass to compute, once the project's models are loaded.

        Those in ``settings.FINCH`` come first, also in tests.
        """
        return {}

    def ready(self) -> None:
        """Register the checks only where installed: the views alone need no ``settings.FINCH``."""
        register(check_settings)


#: By the component's method that responds at a path: what the path is, its view and the check's id.
_VIEWS = {
    "receive": ("the path of redirect_uri", "callback", "W001"),
    "begin_page": ("the begin_path", "begin", "W003"),
    "invite_page": ("the invite_path", "invite", "W004"),
    "webhook": ("the webhook_path", "webhook", "W005"),
}


def check_settings(*, app_configs: object = None, **kwargs: object) -> Iterator[CheckMessage]:
    """
    Faults of ``settings.FINCH`` (E001), and whatever would keep a person from reaching a view.

    W002: browsers send no session cookie when they return from Finch. The others: a path has no
    view.
    """
    try:
        component = finch()
    except ConfigurationError as error:
        for fault in error.faults:
            yield Error(f"FINCH: {fault}", id="finch_middleware.E001")
        return
    for wsgi_path, respond in component.paths.items():
        path = wsgi_path.encode("latin-1").decode(errors="replace")
        try:
            resolve(path)
        except Resolver404:
            what, view, number = _VIEWS[cast("Any", respond).__name__]
            yield Warning(
                f"{path!r}, {what}, has no view",
                hint=f"urlpatterns: path({path[1:]!r}, {view}(finch))",
                id=f"finch_middleware.{number}",
            )
    if settings.SESSION_COOKIE_SAMESITE == "Strict":
        yield Warning(
            "SESSION_COOKIE_SAMESITE is 'Strict': people who return from Finch appear signed out",
            hint="set it to 'Lax', Django's default",
            id="finch_middleware.W002",
        )
