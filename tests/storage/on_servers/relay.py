"""A line between a storage and its server."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import make_url


class Relay:
    """
    An address that leads to a database server, and later perhaps to another.

    Attributes:
        url: The URL of the server behind it.
        garbles: Whether responses are changed at random.
    """

    def __init__(self, url: str, *, chance: random.Random) -> None:
        self.lead_to(url)
        self._random = chance
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.garbles = False
        host, port = self._listening.getsockname()
        given = make_url(url).difference_update_query(["unix_socket", "host"])
        self.url = given.set(host=host, port=port)
        self._threads: list[threading.Thread] = []
        self._lines: list[socket.socket] = []
        self._start(self._accept)

    def lead_to(self, url: str) -> None:
        """Forward new connections to the server of *url*; the others stay where they are."""
        query = make_url(url).query
        self._path = str(query.get("unix_socket") or f"{query['host']}/.s.PGSQL.5432")

    def close(self) -> None:
        """End it, and every connection through it."""
        for line in (self._listening, *self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def passing(self) -> Callable[[bytes, bool], bytes]:
        """
        What becomes of bytes on a new connection; the second argument: the server sent them.

        An OSError ends the connection.
        """
        return lambda sent, answer: self._garbled(sent) if answer and self.garbles else sent

    def _start(self, work: Callable[..., None], *given: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._lines += [client, server]
                passing = self.passing()
                self._start(self._forward, client, server, passing, False)
                self._start(self._forward, server, client, passing, True)

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        passing: Callable[[bytes, bool], bytes],
        answer: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while sent := source.recv(65536):
                target.sendall(passing(sent, answer))
        for line in (target, source):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        # The other direction closes the other one.
        source.close()

    def _garbled(self, sent: bytes) -> bytes:
        kind = self._random.randrange(3)
        if kind == 0:
            return self._random.randbytes(self._random.randrange(1, 200))
        at = self._random.randrange(len(sent))
        if kind == 1:
            # One byte is another.
            return sent[:at] + self._random.randbytes(1) + sent[at + 1 :]
        return sent[:at] + self._random.randbytes(len(sent) - at)
