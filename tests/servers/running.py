"""Each server as its users start it, in a process of its own, on this machine alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from finch_middleware.testing.fake_finch import FakeFinch
from tests.processes import ROOT, free_port, listening
from tests.servers.application import CALLBACK
from tests.site import environment_for

WSGI = "tests.servers.application:application"
ASGI = "tests.servers.application:asgi_application"

_GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1", "--no-control-socket"]
_WERKZEUG = (
    "from werkzeug.serving import run_simple; from tests.servers.application import application; "
    "run_simple('127.0.0.1', {port}, application, threaded=True)"
)
_UWSGI = ["uwsgi", "--http-socket", "127.0.0.1:{port}", "--module", WSGI, "--need-app"]

#: Server: the module that it comes with, and its command.
SERVERS: dict[str, tuple[str, Sequence[str]]] = {
    "gunicorn-sync": ("gunicorn", [*_GUNICORN, WSGI]),
    "gunicorn-gthread": ("gunicorn", [*_GUNICORN, "-k", "gthread", "--threads", "4", WSGI]),
    "gunicorn-gevent": ("gevent", [*_GUNICORN, "-k", "gevent", WSGI]),
    "waitress": ("waitress", ["waitress-serve", "--listen=127.0.0.1:{port}", WSGI]),
    "uwsgi": ("uwsgidecorators", [*_UWSGI, "--threads", "4", "--die-on-term"]),
    "granian": (
        "granian",
        ["granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", WSGI],
    ),
    "cheroot": ("cheroot", ["cheroot", "--bind", "127.0.0.1:{port}", WSGI]),
    "werkzeug": ("werkzeug", ["python", "-c", _WERKZEUG]),
    "uvicorn": ("uvicorn", ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", ASGI]),
}

PREFIX = "/payroll"
_INNER = "tests.servers.mounted:dispatched"
_MOUNT = ["--mount", f"{PREFIX}={WSGI}", "--manage-script-name", "--die-on-term"]

#: The same, each taking `PREFIX` away.
MOUNTED: dict[str, tuple[str, Sequence[str]]] = {
    "uwsgi-mount": ("uwsgidecorators", ["uwsgi", "--http-socket", "127.0.0.1:{port}", *_MOUNT]),
    "gunicorn-script-name": ("gunicorn", [*_GUNICORN, "--env", f"SCRIPT_NAME={PREFIX}", WSGI]),
    "werkzeug-dispatcher": ("waitress", ["waitress-serve", "--listen=127.0.0.1:{port}", _INNER]),
    "starlette-mount": (
        "starlette",
        ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", "tests.servers.mounted:mounted"],
    ),
}

#: Two applications in one process, each in an interpreter of its own by default.
INTERPRETERS: dict[str, tuple[str, Sequence[str]]] = {
    name: (
        "uwsgidecorators",
        ["uwsgi", "--http-socket", "127.0.0.1:{port}", "--mount", f"/a={WSGI}", *_MOUNT, *more],
    )
    for name, more in {"uwsgi-two": [], "uwsgi-two-in-one": ["--single-interpreter"]}.items()
}

#: Built from its source, so `dev` does not ask a newcomer's machine for it.
_APART = {"uwsgidecorators": "uwsgi"}


@dataclass
class Reached:
    """
    Where a browser finds the application, and the Finch that it talks to.

    Attributes:
        log: Returns what the server has written so far.
    """

    origin: str
    fake: FakeFinch
    log: Callable[[], str] = str
    secrets: set[str] = field(default_factory=set)


class Absent(Exception):
    """This server is not installed here."""


@contextmanager
def running(
    name: str, *, origin: str | None = None, path: str = CALLBACK, body_seconds: int = 3600
) -> Iterator[Reached]:
    """
    The server of that name, with a Finch of its own.

    *origin*, with a ``{port}``, and *path* say where browsers come from outside, such as
    through a proxy. For *body_seconds* the application waits for the rest of a body.
    """
    module, command = {**SERVERS, **MOUNTED, **INTERPRETERS}[name]
    if find_spec(module) is None:
        source = _APART.get(module, "'.[dev-full]'")
        raise Absent(f"{name} is not installed; pip install {source}")
    port = free_port()
    outside = (origin or "http://localhost:{port}").format(port=port)
    with FakeFinch() as fake:
        env = {**os.environ, **_environment(fake, redirect_uri=outside + path)}
        env["BODY_SECONDS"] = str(body_seconds)
        with listening(_command(command, port=port), port=port, env=env) as log:
            yield Reached(f"http://localhost:{port}", fake, log)


def _command(command: Sequence[str], *, port: int) -> list[str]:
    program, *arguments = [part.replace("{port}", str(port)) for part in command]
    return [str(Path(sys.executable).with_name(program)), *arguments]


def _environment(fake: FakeFinch, *, redirect_uri: str) -> dict[str, str]:
    return {
        **environment_for(fake, redirect_uri),
        "FINCH_CALLBACK_PATH": CALLBACK,
        "PYTHONPATH": str(ROOT),
        # Some servers' own code warns; other tests turn the warnings of ours into errors.
        "PYTHONWARNINGS": "default",
    }
