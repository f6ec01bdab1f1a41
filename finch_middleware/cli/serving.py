"""What the commands that run a server share."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

import click
from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware.cli import CommandError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def listen(port: int) -> socket.socket:
    """A socket of this machine alone, or a CommandError; port 0 takes a free one."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise port_unusable(port, error) from None


@contextmanager
def serve(app: WSGIApplication, listening: socket.socket) -> Iterator[None]:
    """Serve *app* in threads of this process while the block runs."""
    host, port = listening.getsockname()
    server = make_server(
        *(host, port, app),
        threaded=True,
        request_handler=_QuietHandler,
        fd=listening.fileno(),
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Write no access log: its lines would hold the codes."""


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Run a block until Ctrl-C or SIGTERM, which end it without a traceback."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        # On its own line, because the terminal shows ^C.
        click.echo("\nStopped.")
    finally:
        signal.signal(signal.SIGTERM, before)


def port_unusable(port: int, error: OSError) -> CommandError:
    """The error for a port on which no server can listen."""
    return CommandError(
        f"port {port} cannot be used ({error.strerror}): stop the program that uses it, "
        "or choose another port with --port"
    )
