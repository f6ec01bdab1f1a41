"""
Django: the callback as a view of the URLconf, answers as Django's, and system checks.

::

    # settings.py
    INSTALLED_APPS = [..., "finch_middleware.adapters.django.FinchConfig"]
    FINCH = {"client_id": ..., "redirect_uri": "https://app.example.com/finch/callback", ...}

    # urls.py
    from finch_middleware.adapters.django import callback, finch

    urlpatterns = [path("finch/callback", callback(finch)), ...]

A view rather than a middleware around `wsgi.py`: Django's test client and live server never
pass that file, and a view has the session at hand.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Container, Sequence
from http.cookies import Morsel
from typing import cast

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt
from werkzeug.wrappers import Response

from finch_middleware.connect import FinchConnect
from finch_middleware.errors import ConfigurationError
from finch_middleware.options import Options

CustomerOf = Callable[[HttpRequest], str | Collection[str] | None]
View = Callable[[HttpRequest], HttpResponse]

_making = threading.Lock()


def finch() -> FinchConnect:
    """
    The one component that ``settings.FINCH`` describes, made when first asked for.

    Raises:
        ConfigurationError: Lists everything that is wrong with ``settings.FINCH``.
    """
    with _making:  # two would have two memories, where that is the storage
        return _made()


@functools.cache
def _made() -> FinchConnect:
    options = getattr(settings, "FINCH", None)
    if not isinstance(options, dict):
        raise ConfigurationError(["settings.FINCH: must be a dict of FinchConnect's options"])
    return FinchConnect(**cast("Options", options))


@receiver(setting_changed)
def _forget(*, setting: str, **kwargs: object) -> None:
    """With `override_settings(FINCH=...)` a test gets the component of its own settings."""
    if setting == "FINCH":
        _made.cache_clear()


def callback(
    component: FinchConnect | Callable[[], FinchConnect] = finch,
    *,
    customer_of: CustomerOf | None = None,
) -> View:
    """
    The view of the callback path.

    *component* may be a function, which is called at the first request: so a wrong setting
    is a message of ``manage.py check`` rather than a URLconf that does not load.
    *customer_of* names the customers that Django's request may act for, None for nobody
    signed in; without it the component's own `customer_of` is asked, where it has one.
    """

    # Django's token is for forms of our own pages. Who sends this is held against the
    # flow's ticket, and a POST must come from the application's own origin.
    @csrf_exempt
    def finch_callback(request: HttpRequest) -> HttpResponse:
        connect = component if isinstance(component, FinchConnect) else component()
        if customer_of is None:
            return to_django(connect.callback(request))
        return to_django(connect.callback(request, customer_id=customer_of(request)))

    return finch_callback


def to_django(response: Response) -> HttpResponse:
    """The same answer as Django's, every cookie byte for byte."""
    answer = HttpResponse(response.get_data(), status=response.status_code)
    if "Content-Type" not in response.headers:
        del answer.headers["Content-Type"]
    for name in response.headers.keys():  # noqa: SIM118 - werkzeug's Headers iterate over pairs
        if name.lower() != "set-cookie":
            answer.headers[name] = ", ".join(response.headers.getlist(name))
    for header in response.headers.getlist("Set-Cookie"):
        cookie = _Cookie(header)
        answer.cookies[cookie.key] = cookie
    return answer


class _Cookie(Morsel):  # type: ignore[type-arg]  # typeshed's Morsel is generic, Python's only in stubs
    """
    One Set-Cookie header, sent as it is.

    `SimpleCookie.load` would lose a cookie with an attribute that it does not know, and
    quote an empty value.
    """

    def __init__(self, header: str) -> None:
        super().__init__()
        first, *attributes = (part.strip() for part in header.split(";"))
        name, _, value = first.partition("=")
        self.set(name, value, value)
        for attribute in attributes:
            word, equals, text = attribute.partition("=")
            if self.isReservedKey(word):
                self[word] = text if equals else True
        self._header = header

    def OutputString(self, attrs: Container[str] | None = None) -> str:
        return self._header


class FinchConfig(AppConfig):
    """The entry for INSTALLED_APPS; with it, ``manage.py check`` looks at ``settings.FINCH``."""

    name = "finch_middleware.adapters.django"
    label = "finch_middleware"
    verbose_name = "Finch Connect"


@register
def check_settings(*, app_configs: object = None, **kwargs: object) -> Sequence[CheckMessage]:
    """
    What is wrong with ``settings.FINCH``, and what would keep a return from its view.

    E001: an option is missing or wrong. W001: nothing answers at the path of redirect_uri.
    W002: browsers send no session cookie with a return from Finch.
    """
    try:
        component = finch()
    except ConfigurationError as error:
        return [Error(f"FINCH: {fault}", id="finch_middleware.E001") for fault in error.faults]
    return [*_unreachable(component), *_strict_session()]


def _unreachable(component: FinchConnect) -> list[CheckMessage]:
    path = component.callback_path.encode("latin-1").decode(errors="replace")
    try:
        resolve(path)
    except Resolver404:
        return [
            Warning(
                f"no view answers {path!r}, the path of redirect_uri",
                hint="urlpatterns: path('finch/callback', callback(finch))",
                id="finch_middleware.W001",
            )
        ]
    return []


def _strict_session() -> list[CheckMessage]:
    if settings.SESSION_COOKIE_SAMESITE != "Strict":
        return []
    return [
        Warning(
            "SESSION_COOKIE_SAMESITE is 'Strict': whoever returns from Finch looks signed out",
            hint="say 'Lax', Django's default",
            id="finch_middleware.W002",
        )
    ]
