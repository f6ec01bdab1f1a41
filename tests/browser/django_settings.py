"""The Django example's settings behind a proxy that ends TLS, as Django's manual wants them."""

from __future__ import annotations

import os

from payroll.settings import *  # noqa: F403 - settings are names of a module

CSRF_TRUSTED_ORIGINS = [os.environ["ADDRESS"]]
SESSION_COOKIE_SECURE = True
