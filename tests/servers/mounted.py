"""The application below a prefix, by the unchanged lines of the manual."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from finch_middleware.adapters.asgi import FinchASGIMiddleware
from tests.servers import application as inner

MANUAL = Path(__file__).parents[2] / "docs" / "deployment.md"


def _shown(who: str, **names: Any) -> Any:
    """What the row of *who* in the table "who removes the prefix" makes."""
    found = re.search(rf"^\| {who} \| `([^`]+)`", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return eval(found[1], names)


if "FINCH_REDIRECT_URI" in os.environ:
    dispatched = _shown(
        "a dispatcher",
        DispatcherMiddleware=DispatcherMiddleware,
        root=Response("not here", status=404),
        application=inner.application,
    )
    mount = _shown(
        "Starlette",
        Mount=Mount,
        FinchASGIMiddleware=FinchASGIMiddleware,
        app=inner._asgi_application,
        finch=inner.application.finch,
    )
    mounted = Starlette(routes=[mount])
