"""The settings with a database of the project, for the storage on the Django ORM."""

from __future__ import annotations

import os
from pathlib import Path

from payroll.settings import *  # noqa: F403  # all settings of the project, and more
from payroll.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "payroll"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", Path(__file__).parents[1] / "app.db"),
        "OPTIONS": {
            # Without it, SQLite refuses a claim at once if another one writes first.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # Without synchronous=FULL, a power failure may lose a commit.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
}
