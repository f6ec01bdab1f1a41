"""The project's settings: no database, sessions in signed cookies."""

from __future__ import annotations

import secrets

SECRET_KEY = secrets.token_urlsafe(50)
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "payroll.embedded"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CSRF_USE_SESSIONS = True
# runserver logs whole URLs, and a callback's URL contains a code.
LOGGING = {"version": 1, "loggers": {"django.server": {"level": "CRITICAL"}}}
