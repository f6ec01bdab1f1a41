"""The project's command line: `manage.py runserver`, `manage.py check`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line
from django.core.management.commands.runserver import Command as RunServer

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from shared import stand_in_for_finch

    port = os.environ.get("PORT", "8000")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "payroll.settings")
    # Finch accepts http only for localhost, whose cookies a browser does not send to 127.0.0.1.
    RunServer.default_addr, RunServer.default_port = "localhost", port
    stand_in_for_finch(int(port))
    execute_from_command_line(sys.argv)
