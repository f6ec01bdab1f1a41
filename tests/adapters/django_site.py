"""A Django of this process: set up once, with a URLconf that tests share."""

from __future__ import annotations

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from finch_middleware.adapters.django import (
    begin,
    callback,
    finch,
    invite,
    to_django,
    webhook,
)

#: Where a browser finds it.
ORIGIN = "http://localhost:8000"


def set_up() -> None:
    """Django, ready for requests; a second call changes nothing."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "finch_middleware.adapters.django.FinchConfig",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )
    django.setup()


def sign_in(request: HttpRequest) -> HttpResponse:
    request.session["customer_id"] = request.GET["as"]
    return HttpResponse()


def connect(request: HttpRequest) -> HttpResponse:
    response = finch().begin(
        request=request, customer_id=request.session["customer_id"], customer_name="Acme Inc."
    )
    return to_django(response)


urlpatterns = [
    path("sign-in", sign_in),
    path("connect", connect),
    path("begin", begin(finch)),
    path("invitation", invite(finch)),
    path("finch/callback", callback(finch)),
    path("finch/webhook", webhook(finch)),
]
