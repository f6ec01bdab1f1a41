"""
A token server that costs next to nothing, in a process of its own, so that clients are measured.

It answers Finch's two endpoints, and Slack's two for slack_bolt. A code names its customer, so the
server keeps nothing. With a certificate it speaks TLS; with a *round trip*, a proxy before it
delays what each side sends by half of that, and the first bytes by one round trip more.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4


@dataclass(frozen=True, kw_only=True)
class TokenServer:
    """
    Where it listens.

    Attributes:
        ca_file: The certificate that a client trusts; None without TLS.
    """

    url: str
    ca_file: Path | None = None


@contextmanager
def running(
    *, certificate: Path | None = None, ca_file: Path | None = None, round_trip: float = 0.0
) -> Iterator[TokenServer]:
    """Start one on 127.0.0.1, and end it. *round_trip* is in seconds."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, certificate, round_trip), daemon=True)
    process.start()
    there.close()  # so that a process that ends early is noticed
    try:
        scheme = "https" if certificate else "http"
        yield TokenServer(url=f"{scheme}://127.0.0.1:{here.recv()}", ca_file=ca_file)
    finally:
        process.terminate()
        process.join()


def _serve(ready: Connection, certificate: Path | None, round_trip: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
        server = await loop.create_server(_Answering, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        if round_trip:
            server = await loop.create_server(lambda: _Delaying(port, round_trip), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class _Answering(asyncio.Protocol):
    """One kept connection; a request may come in pieces."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            length = _length_of(head)
            if len(rest) < length:
                return
            body, self._received = rest[:length], rest[length:]
            self._transport.write(_response(head, body))


def _length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _response(head: bytes, body: bytes) -> bytes:
    path = head.split(b" ", 2)[1].decode()
    sent = json.loads(body) if body[:1] == b"{" else _form(body)
    status, answer = "200 OK", _answer(path, sent)
    if path == "/connect/sessions":
        status = "201 Created"
    text = json.dumps(answer).encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Finch-Request-Id: {uuid4()}\r\nContent-Length: {len(text)}\r\n\r\n"
    ).encode() + text


def _form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def _answer(path: str, sent: dict[str, Any]) -> dict[str, object]:
    if path == "/connect/sessions":
        session_id = str(uuid4())
        address = f"https://connect.invalid/authorize?session={session_id}"
        return {"session_id": session_id, "connect_url": address}
    if path == "/api/auth.test":
        return {"ok": True, "bot_id": "B1", "url": "https://acme.invalid/"}
    customer = str(sent["code"]).partition("~")[0]
    if path == "/api/oauth.v2.access":
        return {
            "ok": True,
            "access_token": f"xoxb-{uuid4()}",
            "token_type": "bot",
            "scope": "chat:write",
            "bot_user_id": "U1",
            "app_id": "A1",
            "team": {"id": customer, "name": "Acme"},
            "authed_user": {"id": customer},
        }
    connection_id = str(uuid4())
    return {
        "access_token": str(uuid4()),
        "token_type": "bearer",
        "client_type": "production",
        "connection_type": "provider",
        "connection_id": connection_id,
        "customer_id": customer,
        "account_id": connection_id,
        "company_id": connection_id,
        "entity_ids": [connection_id],
        "provider_id": "gusto",
        "products": ["company", "directory"],
    }


class _Delaying(asyncio.Protocol):
    """Forwards to the server's port, each way half a round trip later."""

    def __init__(self, port: int, round_trip: float) -> None:
        self._port, self._half = port, round_trip / 2
        self._handshake = round_trip

    def connection_made(self, transport: Any) -> None:
        self._near, self._waiting, self._far = transport, list[bytes](), None
        self._loop = asyncio.get_running_loop()
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        await asyncio.sleep(self._handshake)
        near, later = self._near, self._later
        far, _ = await self._loop.create_connection(
            lambda: _Returning(near, later), "127.0.0.1", self._port
        )
        self._far = far
        for data in self._waiting:
            self._later(far.write, data)

    def _later(self, call: Any, *args: Any) -> None:
        self._loop.call_later(self._half, call, *args)

    def data_received(self, data: bytes) -> None:
        if self._far is None:
            self._waiting.append(data)
        else:
            self._later(self._far.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connecting.cancel()
        if self._far is not None:
            self._far.close()


class _Returning(asyncio.Protocol):
    def __init__(self, near: Any, later: Any) -> None:
        self._near, self._later = near, later

    def data_received(self, data: bytes) -> None:
        self._later(self._near.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(self._near.close)


if __name__ == "__main__":
    with running() as server:
        print(server.url)
        sys.stdin.read()
