"""Gunicorn in front of the application, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from finch_middleware import FinchConnect
from finch_middleware.testing.fake_finch import FakeFinch
from tests.odd_server import authority
from tests.site import CALLBACK, KEY

_PATIENCE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Workers:
    """
    A running gunicorn.

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
        """Lines of gunicorn's error log that tell of an error."""
        lines = (self.folder / "errors").read_text().splitlines()
        return [line for line in lines if "Traceback" in line or "[ERROR]" in line]


@contextlib.contextmanager
def secure_fake() -> Iterator[FakeFinch]:
    """A fake Finch behind TLS, so that a connection shared by two processes breaks at once."""
    context: ssl.SSLContext = authority().server()
    with FakeFinch(tls=context) as fake:
        yield fake


@contextlib.contextmanager
def workers(
    fake: FakeFinch, folder: Path, *, arguments: list[str], url: str | None = None
) -> Iterator[Workers]:
    """Gunicorn with *arguments*, on a free port, until the block ends; on SQLite, or on *url*."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    origin = f"http://localhost:{port}"
    environment = {
        **os.environ,
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": origin + CALLBACK,
        "FINCH_PRODUCTS": "company,directory",
        "FINCH_STORAGE_URL": url or f"sqlite:///{folder}/finch.db",
        "FINCH_SPOOL": str(folder / "spool"),
        "FINCH_KEY": KEY,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "THREATS_CA": str(authority().bundle),
        "THREATS_FOLDER": str(folder),
    }
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *arguments]
    command += ["--worker-tmp-dir", str(folder), "tests.threats.forked_app:app"]
    with open(folder / "errors", "wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=Path(__file__).parents[2], stdout=log, stderr=log
        )
    try:
        _await(port, process)
        finch = FinchConnect.from_env(environment)
        yield Workers(origin=origin, folder=folder, finch=finch, process=process)
        getattr(finch.storage, "close", lambda: None)()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE_SECONDS)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("gunicorn does not answer")


def path_of(address: str) -> str:
    """Path and query of an address."""
    return urlsplit(address)._replace(scheme="", netloc="").geturl()
