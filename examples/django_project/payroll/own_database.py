"""The settings with a database of the project's own, for the storage over the Django ORM."""

from __future__ import annotations

import os
from pathlib import Path

from payroll.settings import *  # noqa: F403  # Django's way: the project's settings, all of them, and more
from payroll.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "payroll"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", Path(__file__).parents[1] / "app.db"),
        "OPTIONS": {
            # A claim that is overtaken while it waits would be refused without waiting.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # Without the last a commit may be lost with the power.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
}
