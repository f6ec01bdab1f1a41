"""
The demo's two servers, each in a process of its own.

A child serves until its standard input ends. That is when its parent closes it, and also when
the parent is killed: nothing is ever left behind.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from threading import Thread
from types import TracebackType
from typing import IO, Literal, Self

from finch_middleware.errors import FinchError

Role = Literal["finch", "application"]

CALLBACK_PATH = "/finch/callback"
_START_SECONDS = 30
_STOP_SECONDS = 5


class CannotServe(Exception):
    """A child did not come up; the text says why."""


class ServerProcess:
    """
    One server, up when it is made.

    Attributes:
        address: Where it is.
        process_id: Of its process.

    Raises:
        CannotServe: It is not.
    """

    def __init__(
        self, role: Role, *, environ: Mapping[str, str], port: int = 0, log: IO[bytes] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            # -P: a file in the current folder must not stand in for a module of the same name.
            [sys.executable, "-P", "-m", "finch_middleware.cli.demo_processes", role, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # Ctrl-C is the parent's: it then ends the children in its own order.
            start_new_session=True,
        )
        self.process_id = self._process.pid
        self.address = ""
        try:
            self.address = self._announced(role)
        except BaseException:  # Ctrl-C too must leave no child behind
            self.stop()
            raise

    @property
    def up(self) -> bool:
        """Whether it still serves."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it, now at the latest."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _announced(self, role: Role) -> str:
        """The address that the child announces, once it listens."""
        lines: list[bytes] = []
        assert self._process.stdout is not None
        read = self._process.stdout.readline
        reader = Thread(target=lambda: lines.append(read()), daemon=True)
        reader.start()
        reader.join(_START_SECONDS)
        if not lines or not lines[0]:
            raise CannotServe(f"the {role}'s process did not come up")
        said = json.loads(lines[0])
        if "fault" in said:
            raise CannotServe(f"the {role} cannot serve: {said['fault']}")
        return str(said["address"])


def _announce(**said: str) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _until_parent_is_done() -> None:
    sys.stdin.buffer.read()


def _serve_finch(port: int) -> None:
    from finch_middleware.testing.fake_finch import FakeFinch

    fake = FakeFinch(
        client_id=os.environ["FINCH_CLIENT_ID"],
        client_secret=os.environ["FINCH_CLIENT_SECRET"],
        port=port,
    )
    with fake:
        _announce(address=fake.api_url)
        _until_parent_is_done()


def _serve_application(port: int) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    from finch_middleware import FinchConnect, FinchMiddleware
    from finch_middleware.cli.demo_app import DemoApp

    class Silent(WSGIRequestHandler):
        """Writes no access log: its lines would hold the codes."""

        def log(self, type: str, message: str, *args: object) -> None:
            return

    # Finch knows plain http for localhost alone, and the address must be known first.
    with socket.create_server(("127.0.0.1", port)) as listening:
        address = f"http://localhost:{listening.getsockname()[1]}"
        finch = FinchConnect.from_env(redirect_uri=address + CALLBACK_PATH, brand="Finch demo")
        app = FinchMiddleware(DemoApp(finch, notice=os.environ["FINCH_DEMO_NOTICE"]), finch)
        server = make_server(
            "127.0.0.1",
            listening.getsockname()[1],
            app,
            threaded=True,
            request_handler=Silent,
            fd=listening.fileno(),
        )
    Thread(target=server.serve_forever, daemon=True).start()
    _announce(address=address)
    _until_parent_is_done()
    server.shutdown()
    server.server_close()


_ROLES: dict[str, Callable[[int], None]] = {
    "finch": _serve_finch,
    "application": _serve_application,
}


def _child(role: str, port: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _ROLES[role](port)
    except OSError as error:
        _announce(fault=f"port {port}: {error.strerror}; choose another with --port")
        return 1
    except FinchError as error:
        _announce(fault=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], int(sys.argv[2])))
