"""Gunicorn in front of the application, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from finch_middleware import FinchConnect
from finch_middleware.testing.fake_finch import FakeFinch
from tests.odd_server import authority
from tests.processes import answers, free_port, started
from tests.site import CALLBACK, KEY, environment_for

_PATIENCE_SECONDS = 240


@dataclass(frozen=True, kw_only=True)
class Workers:
    """
    A running server.

    Attributes:
        origin: Where a browser finds it.
        finch: A component of this process on the same database, to look with.
        secrets: What browsers have seen, as a Site collects it.
    """

    origin: str
    folder: Path
    finch: FinchConnect
    process: subprocess.Popen[bytes]
    secrets: set[str] = field(default_factory=set, repr=False)

    def events(self) -> list[dict[str, Any]]:
        """What the workers reported."""
        return [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]

    def a_worker(self) -> int:
        """The process id of the worker that answers."""
        with urlopen(f"{self.origin}/who", timeout=_PATIENCE_SECONDS) as answer:
            return int(answer.read())

    def move_clock(self, seconds: float) -> None:
        """Let that time pass for all workers."""
        (self.folder / "ahead").write_text(str(seconds))

    def complaints(self) -> list[str]:
        """Lines of the server's error log that report an error."""
        lines = (self.folder / "errors").read_text().splitlines()
        return [line for line in lines if "Traceback" in line or "[ERROR]" in line]


@contextlib.contextmanager
def secure_fake() -> Iterator[FakeFinch]:
    """A fake Finch behind TLS, so that a connection shared by two processes breaks at once."""
    context: ssl.SSLContext = authority().server()
    with FakeFinch(tls=context) as fake:
        yield fake


_APP = "tests.threats.forked_app:app"
#: How each server is started; its address follows. uWSGI forks without Python's hooks.
_SERVERS = {
    "gunicorn": f"-m gunicorn {_APP} --worker-tmp-dir {{folder}} --bind",
    "uwsgi": f"--module {_APP} --need-app --master --die-on-term --http-socket",
}


@contextlib.contextmanager
def workers(
    fake: FakeFinch,
    folder: Path,
    *,
    arguments: list[str],
    url: str | None = None,
    server: str = "gunicorn",
) -> Iterator[Workers]:
    """*server* with *arguments*, on a free port, until the block ends; on SQLite, or on *url*."""
    port = free_port()
    origin = f"http://localhost:{port}"
    url = url or f"sqlite:///{folder}/finch.db"
    more = {"products": "company,directory", "storage_url": url, "key": KEY}
    environment = {
        **os.environ,
        **environment_for(fake, origin + CALLBACK, spool=str(folder / "spool"), **more),
        "THREATS_CA": str(authority().bundle),
        "THREATS_FOLDER": str(folder),
    }
    python = Path(sys.executable)
    command = [str(python.with_name("uwsgi") if server == "uwsgi" else python)]
    command += [*_SERVERS[server].format(folder=folder).split(), f"127.0.0.1:{port}", *arguments]
    with (
        open(folder / "errors", "wb") as log,
        started(command, env=environment, log=log) as process,
    ):
        assert answers(port, process), f"{server} does not answer"
        finch = FinchConnect.from_env(environment)
        yield Workers(origin=origin, folder=folder, finch=finch, process=process)
        getattr(finch.storage, "close", lambda: None)()
