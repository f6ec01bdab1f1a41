"""The TCP side: keeps connections, delivers answers, and breaks them where it is told to."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread, current_thread
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.behaviour import Behaviour, Ending
from finch_middleware.testing.fake_finch.dispatch import RAW_HEADERS, Stopped

#: Closing a socket with a linger time of zero sends a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)
_BODY_LIMIT_BYTES = 1024 * 1024

Answerer = Callable[[Request, Event], tuple[Response, Behaviour]]


class Server(ThreadedWSGIServer):
    """
    One thread a connection, on 127.0.0.1, silent.

    Attributes:
        stopping: Set once the server ends; whoever waits inside a handler waits on this.
        accepted: How many TCP connections came.
        faults: Errors of the fake itself, which nobody else would see.
    """

    def __init__(
        self,
        answerer: Answerer,
        *,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.answerer = answerer
        self.stopping = Event()
        self.accepted = 0
        self.faults: list[BaseException] = []
        self._open: dict[Thread, socket.socket] = {}
        self._lock = Lock()
        # A listening socket of our own: werkzeug prints and exits where a port is taken.
        with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
            super().__init__("127.0.0.1", port, _no_app, Handler, fd=listening.fileno())
        self.ssl_context = tls

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread that `stop` can wake and await."""
        thread = Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="fake-finch-connection",
            daemon=True,
        )
        with self._lock:
            self.accepted += 1
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(self._secured(request), client_address)
        except OSError:
            # Gone before TLS could begin: the client's affair.
            request.close()
        finally:
            with self._lock:
                del self._open[current_thread()]

    def _secured(self, request: socket.socket) -> socket.socket:
        if self.ssl_context is None:
            return request
        # The first read shakes hands: a client that stalls in it must not hold up the others.
        secured = self.ssl_context.wrap_socket(
            request, server_side=True, do_handshake_on_connect=False
        )
        with self._lock:
            self._open[current_thread()] = secured
        return secured

    def stop(self) -> None:
        """End every connection and thread, also those that hold or stall."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            at_work = dict(self._open)
        for connection in at_work.values():
            _wake(connection)
        for thread in at_work:
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep an error of the fake itself for `FakeFinch.stop` to raise."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self.faults.append(fault)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: paths and addresses of a test are noise."""


class Handler(WSGIRequestHandler):
    """One connection: request after request, each with the behaviour scripted for it."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Read one request whole, then deliver its answer."""
        request = Request(self.make_environ() | {RAW_HEADERS: tuple(self.headers.items())})
        request.max_content_length = _BODY_LIMIT_BYTES
        try:
            request.get_data()
        except HTTPException as refusal:
            # The rest of the body may still be on its way: nothing can follow on this connection.
            self.close_connection = True
            self._deliver(Response(status=refusal.code), Behaviour())
            return
        self._deliver(*self.server.answerer(request, self.server.stopping))

    def _deliver(self, response: Response, behaviour: Behaviour) -> None:
        left = behaviour.cut_at
        for piece in self._pieces(response, behaviour):
            self.connection.sendall(piece if left is None else piece[:left])
            if left is not None:
                left -= min(left, len(piece))
                if not left:
                    break
            if behaviour.pace_seconds:
                self._pace(behaviour.pace_seconds)
        self._end(behaviour.ending)

    def _pieces(self, response: Response, behaviour: Behaviour) -> Iterator[bytes]:
        yield from _split(self._head(response), whole=behaviour.drip != "headers")
        if self.command == "HEAD":
            return
        for block in response.iter_encoded():
            yield from _split(block, whole=behaviour.drip != "body")

    def _head(self, response: Response) -> bytes:
        headers = response.headers
        headers.setdefault("Date", self.date_time_string())
        headers.setdefault("Connection", "close" if self.close_connection else "keep-alive")
        lines = [f"HTTP/1.1 {response.status}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _end(self, ending: Ending) -> None:
        if ending is Ending.KEEP:
            return
        if ending is Ending.STALL:
            self.server.stopping.wait()
        if ending is Ending.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Before the server's own farewell, which would be an orderly end.
            self.connection.close()
        self.close_connection = True

    def _pace(self, seconds: float) -> None:
        if self.server.stopping.wait(seconds):
            raise Stopped

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: paths and addresses of a test are noise."""


def _split(data: bytes, *, whole: bool) -> Iterator[bytes]:
    if whole:
        yield data
        return
    for position in range(len(data)):
        yield data[position : position + 1]


def _wake(connection: socket.socket) -> None:
    try:
        # Below TLS: its own shutdown would pull the session from under the handler.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        # The other side, or our own handler, was faster.
        return


def _no_app(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("the handler answers by itself")
