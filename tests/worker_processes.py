"""Worker processes of one deployment; this module is also what such a process runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.internals import PATIENCE_SECONDS, wait_for_databases
from tests.site import CALLBACK, Quiet, Site, options_for


class Place(Site):
    """Another process's address, as a browser needs it."""

    def __init__(self, origin: str, *, secrets: set[str]) -> None:
        self.origin = origin
        self.secrets = secrets


@contextmanager
def workers_of(
    fake: FakeFinch,
    site: Site,
    storage_options: dict[str, Any],
    *settings: dict[str, Any],
    log: Path,
) -> Iterator[list[Place]]:
    """A process for each of *settings* on the storage of *site*; what they write goes to *log*."""
    options = options_for(fake, site.origin + CALLBACK, **storage_options)
    with ExitStack() as stack, log.open("w") as written:
        started = [
            stack.enter_context(worker({**options, **each}, log=written)) for each in settings
        ]
        yield [
            Place(f"http://127.0.0.1:{port_of(process)}", secrets=site.secrets)
            for process in started
        ]


@contextmanager
def worker(options: dict[str, Any], *, log: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that serves the callback with these options."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker_processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(options, default=str) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def port_of(process: subprocess.Popen[str]) -> int:
    """The port of that process, once it listens."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def main() -> None:
    """Read the options as one line of JSON, write the port, serve until the input ends."""
    wait_for_databases(PATIENCE_SECONDS)
    app = FinchMiddleware(None, FinchConnect(**json.loads(sys.stdin.readline())))  # type: ignore[arg-type]  # only our path is asked for
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
