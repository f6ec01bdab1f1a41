"""A request that is not ours behind real servers: within the noise of the bare application."""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ratios import Line, line, measured, seconds
from tests.processes import free_port

_SERVERS = {
    "gunicorn": "gunicorn --workers 1 --threads 4 --bind 127.0.0.1:{port} --log-level critical",
    "waitress": "waitress-serve --listen=127.0.0.1:{port} --threads=4",
}


def bare(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """An application that only greets."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def __getattr__(name: str) -> Any:
    """The wrapped application, made where a server asks for it."""
    if name != "wrapped":
        raise AttributeError(name)
    from benchmarks.peers import Ours
    from benchmarks.token_server import TokenServer
    from finch_middleware import FinchMiddleware

    finch = Ours(TokenServer(url="http://127.0.0.1:9"), "memory://").finch
    return FinchMiddleware(bare, finch)


def forwarded(server: str, *, rounds: int = 9, times: int = 300) -> list[Line]:
    """The same requests on a kept connection, in turns: wrapped, bare, and bare once more."""
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(_served(server, application))
            for name, application in (("ours", "wrapped"), ("bare", "bare"), ("again", "bare"))
        }

        def cost(name: str) -> float:
            return seconds(lambda: _get(clients[name]), times=times)

        found = measured({name: (lambda name=name: cost(name)) for name in clients}, rounds=rounds)
    what = f"forwarding behind {server}"
    noise = statistics.median(found["again"]) / statistics.median(found["bare"])
    against = f"the bare application ({noise:.2f} to itself)"
    return [line(what, found["ours"], found["bare"], against=against)]


def _get(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/elsewhere")
    assert client.getresponse().read() == b"hello"


@contextmanager
def _served(server: str, application: str) -> Iterator[http.client.HTTPConnection]:
    port = free_port()
    command = [
        *_SERVERS[server].format(port=port).split(),
        f"benchmarks.behind_servers:{application}",
    ]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.getcwd()}, stderr=subprocess.DEVNULL
    )
    try:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        _wait_for(client)
        yield client
        client.close()
    finally:
        process.terminate()
        process.wait()


def _wait_for(client: http.client.HTTPConnection) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            _get(client)
        except OSError:
            if time.monotonic() > until:
                raise
            client.close()
            time.sleep(0.05)
        else:
            return
