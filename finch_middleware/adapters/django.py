"""
Django: callback and begin path as views of the URLconf, answers as Django's, system checks.

::

    # settings.py
    INSTALLED_APPS = [..., "finch_middleware.adapters.django.FinchConfig"]
    FINCH = {"client_id": ..., "redirect_uri": "https://app.example.com/finch/callback", ...}

    # urls.py
    from finch_middleware.adapters.django import callback, finch

    urlpatterns = [path("finch/callback", callback(finch)), ...]

With the option `begin_path` also ``path("connect", begin(finch))``. Views rather than a
middleware around `wsgi.py`: Django's test client and live server never pass that file, and a
view has the session at hand.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from http.cookies import Morsel
from typing import Any, cast

from django.apps import AppConfig
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
from finch_middleware.forks import renew_in_children

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


def _renew_lock(_: object) -> None:
    global _making
    _making = threading.Lock()


renew_in_children(finch, _renew_lock)


@functools.cache
def _made() -> FinchConnect:
    # Never in a local: a traceback with locals would show the client secret and the key.
    if not isinstance(getattr(settings, "FINCH", None), dict):
        raise ConfigurationError(["settings.FINCH: must be a dict of FinchConnect's options"])
    return FinchConnect(**cast("Options", settings.FINCH))


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
        connect = _the(component)
        if customer_of is None:
            return to_django(connect.callback(request))
        return to_django(connect.callback(request, customer_id=customer_of(request)))

    return finch_callback


def begin(component: FinchConnect | Callable[[], FinchConnect] = finch) -> View:
    """
    The view of the begin path: a page with the button, and for its POST the way into Connect.

    *component* is as for `callback`, with the options `begin_path`, so that
    ``manage.py check`` can tell whether a view stands there, and `customer_of`, which names
    the `Customer`. It is asked with a `CallbackRequest`, whose ``environ`` is ``request.META``.
    """

    # The page's form, or one of the application's own template, has no token of Django: a
    # POST that does not come from a page of the application's own origin is refused by itself.
    @csrf_exempt
    def finch_begin(request: HttpRequest) -> HttpResponse:
        return to_django(_the(component).begin_page(request))

    return finch_begin


def _the(component: FinchConnect | Callable[[], FinchConnect]) -> FinchConnect:
    return component if isinstance(component, FinchConnect) else component()


def to_django(response: Response) -> HttpResponse:
    """The same answer as Django's, every cookie byte for byte."""
    with response:
        answer = HttpResponse(response.get_data(), status=response.status_code)
    if "Content-Type" not in response.headers:
        del answer.headers["Content-Type"]
    for name, _ in response.headers:
        if name.lower() != "set-cookie":
            answer.headers[name] = ", ".join(response.headers.getlist(name))
    for header in response.headers.getlist("Set-Cookie"):
        cookie = _Cookie(header)
        # Django sends the values; a second cookie of one name, for another path, has another key.
        answer.cookies[header if cookie.key in answer.cookies else cookie.key] = cookie
    return answer


class _Cookie(Morsel):  # type: ignore[type-arg]  # typeshed's Morsel is generic, Python's only in stubs
    """
    One Set-Cookie header, sent as it is, unless Django's code changes the cookie afterwards.

    `SimpleCookie.load` would lose a cookie with an attribute that it does not know, and
    quote an empty value.
    """

    _header: str | None = None

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

    def set(self, key: str, val: str, coded_val: str) -> None:
        super().set(key, val, coded_val)
        self._header = None

    def __setitem__(self, word: str, text: Any) -> None:
        super().__setitem__(word, text)
        self._header = None

    def OutputString(self, attrs: Container[str] | None = None) -> str:
        if self._header is not None:
            return self._header
        return super().OutputString(attrs)


class FinchConfig(AppConfig):
    """
    The entry for INSTALLED_APPS: with it ``manage.py check`` looks at ``settings.FINCH``.

    An application that makes its component by itself, and has no such setting, leaves it out.
    """

    name = "finch_middleware.adapters.django"
    label = "finch_middleware"
    verbose_name = "Finch Connect"

    def ready(self) -> None:
        """Here, not where it is defined: the views alone ask for no ``settings.FINCH``."""
        register(check_settings)


def check_settings(*, app_configs: object = None, **kwargs: object) -> Sequence[CheckMessage]:
    """
    What is wrong with ``settings.FINCH``, and what would keep a person from a view.

    E001: an option is missing or wrong. W001: nothing answers at the path of redirect_uri.
    W002: browsers send no session cookie with a return from Finch. W003: nothing answers at
    begin_path.
    """
    try:
        component = finch()
    except ConfigurationError as error:
        return [Error(f"FINCH: {fault}", id="finch_middleware.E001") for fault in error.faults]
    return [*_unreachable(component), *_strict_session()]


def _unreachable(component: FinchConnect) -> Iterator[CheckMessage]:
    for wsgi_path in component.paths:
        path = wsgi_path.encode("latin-1").decode(errors="replace")
        if _resolves(path):
            continue
        if wsgi_path == component.callback_path:
            what, view, number = "the path of redirect_uri", "callback(finch)", "W001"
        else:
            what, view, number = "the begin_path", "begin(finch)", "W003"
        yield Warning(
            f"no view answers {path!r}, {what}",
            hint=f"urlpatterns: path({path[1:]!r}, {view})",
            id=f"finch_middleware.{number}",
        )


def _resolves(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


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
