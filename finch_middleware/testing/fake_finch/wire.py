"""The TCP side: accepts connections, sends responses, and breaks them as a Behaviour asks."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from socketserver import TCPServer
from threading import Event, Lock, Thread, current_thread
from typing import Any, Self

from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.behaviour import Behaviour, Ending
from finch_middleware.testing.fake_finch.dispatch import RAW_HEADERS, Stopped

_BODY_LIMIT_BYTES = 1024 * 1024
_STOP_POLL_SECONDS = 0.02

Respond = Callable[[Request, Event], tuple[Response, Behaviour]]


class Server(TCPServer):
    """
    A server on 127.0.0.1 with one thread for each connection. It prints nothing.

    Attributes:
        stopping: Set when the server stops; a handler that waits must wait on this.
        accepted: The number of accepted connections.
    """

    allow_reuse_address = True
    request_queue_size = 128
    # werkzeug's handler reads these two.
    multithread, multiprocess = True, False

    def __init__(
        self,
        handler: Callable[[socket.socket, Any, Any], object],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """*handler* is called with the socket, the client's address and this server."""
        super().__init__(("127.0.0.1", port), handler)  # type: ignore[arg-type]  # any callable
        self.port: int = self.server_address[1]
        self.ssl_context = tls
        self.stopping = Event()
        self.accepted = 0
        self._faults: list[Exception] = []
        self._open: dict[Thread, socket.socket] = {}
        self._lock = Lock()
        self._accepting = Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": _STOP_POLL_SECONDS},
            name="fake-finch",
            daemon=True,
        )

    def start(self) -> Self:
        self._accepting.start()
        return self

    def stop(self) -> None:
        """End every connection and thread at once; raise the error of a handler that failed."""
        self.stopping.set()
        shut_down(self)
        self.server_close()
        with self._lock:
            active = dict(self._open)
        for connection in active.values():
            # Below TLS: its own shutdown would remove the session that the handler uses.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in [*active, self._accepting]:
            thread.join()
        if self._faults:
            raise RuntimeError("the fake itself failed") from self._faults[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a thread of its own."""
        thread = Thread(
            target=self._serve,
            args=(request, client_address),
            name="fake-finch-connection",
            daemon=True,
        )
        with self._lock:
            self.accepted += 1
            self._open[thread] = request
        thread.start()

    def _serve(self, connection: socket.socket, client_address: Any) -> None:
        try:
            if self.ssl_context is not None:
                connection = self.secure(connection, self.ssl_context)
            self.finish_request(connection, client_address)
        except OSError:
            pass  # The client has closed the connection.
        except Exception as fault:  # raised again when the server stops
            self._faults.append(fault)
        finally:
            self.shutdown_request(connection)
            with self._lock:
                del self._open[current_thread()]

    def secure(self, connection: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        """The connection under TLS. Its first read does the handshake."""
        secured = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open[current_thread()] = secured
            if self.stopping.is_set():
                # `stop` knew the plain connection only, which this one replaces.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(secured, socket.SHUT_RDWR)
        return secured


def shut_down(server: TCPServer) -> None:
    """End `serve_forever` at once, where the system wakes it, and not at the end of its poll."""
    with contextlib.suppress(OSError):
        server.socket.shutdown(socket.SHUT_RDWR)
    server.shutdown()


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset, which is what a linger time of zero asks for."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Handler(WSGIRequestHandler):
    """One connection: reads request after request, and sends each response as scripted."""

    server: Server  # type: ignore[assignment]  # it has what werkzeug's handler reads
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, respond: Respond, *connection: Any) -> None:
        self._respond = respond
        super().__init__(*connection)

    def run_wsgi(self) -> None:
        """Read one request completely, then send its response."""
        request = Request(self.make_environ() | {RAW_HEADERS: tuple(self.headers.items())})
        request.max_content_length = _BODY_LIMIT_BYTES
        try:
            request.get_data()
        except HTTPException as refusal:
            # The rest of the body may follow, so this connection cannot carry another request.
            self.close_connection = True
            self._send(Response(status=refusal.code), Behaviour())
            return
        self._send(*self._respond(request, self.server.stopping))

    def _send(self, response: Response, behaviour: Behaviour) -> None:
        left = behaviour.cut_at
        for piece in self._pieces(response, behaviour):
            self.connection.sendall(piece if left is None else piece[:left])
            if left is not None:
                left -= min(left, len(piece))
                if not left:
                    break
            if behaviour.pace_seconds and self.server.stopping.wait(behaviour.pace_seconds):
                raise Stopped
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
        if ending is Ending.STALL:
            self.server.stopping.wait()
        if ending is Ending.RESET:
            # Before the server's own orderly close.
            reset(self.connection)
        self.close_connection = self.close_connection or ending is not Ending.KEEP

    def log(self, type: str, message: str, *args: Any) -> None:
        """Do nothing: a test has no use for paths and addresses."""


def _split(data: bytes, *, whole: bool) -> Iterator[bytes]:
    if whole:
        yield data
        return
    for position in range(len(data)):
        yield data[position : position + 1]
