"""A proxy in front of PostgreSQL that cuts the line at a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import parse_qs, urlsplit

from tests.storage.servers import Server

_COMMIT = b"COMMIT\x00"
_WRITES, _READS = b"BEGIN ISOLATION", b"BEGIN READ ONLY"


class CuttingProxy:
    """
    Use it as a context manager; `url` reaches the database through it.

    Attributes:
        cut: Whether it has cut the line that it was told to.
    """

    def __init__(self, server: Server) -> None:
        [self._folder] = parse_qs(urlsplit(server.url).query)["host"]
        self._forwarded: bool | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.cut = False

    @property
    def url(self) -> str:
        """The URL of the database behind it."""
        port = self._listening.getsockname()[1]
        return f"postgresql+psycopg://finch@127.0.0.1:{port}/postgres?sslmode=disable"

    def cut_at_commit(self, *, forwarded: bool) -> None:
        """Cut the line at a writer's next COMMIT: once it is done, or before the server knows."""
        self.cut = False
        self._forwarded = forwarded

    def __enter__(self) -> CuttingProxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _spawn(self, work: object, *given: object) -> None:
        thread = threading.Thread(target=work, args=given)  # type: ignore[arg-type]  # a bound method
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{self._folder}/.s.PGSQL.5432")
                self._sockets += [client, server]
                cut = threading.Event()
                self._spawn(self._to_server, client, server, cut)
                self._spawn(self._to_client, client, server, cut)

    def _to_server(
        self, client: socket.socket, server: socket.socket, cut: threading.Event
    ) -> None:
        writing = False
        with contextlib.suppress(OSError):
            while sent := client.recv(65536):
                writing = (writing or _WRITES in sent) and _READS not in sent
                if writing and _COMMIT in sent and self._forwarded is not None:
                    forwarded, self._forwarded = self._forwarded, None
                    self.cut = True
                    cut.set()
                    if not forwarded:
                        break
                server.sendall(sent)
        _end(server)
        if not cut.is_set():
            _end(client)

    def _to_client(
        self, client: socket.socket, server: socket.socket, cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while answer := server.recv(65536):
                if cut.is_set():
                    break
                client.sendall(answer)
        _end(client)
        _end(server)


def _end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
