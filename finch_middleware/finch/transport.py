"""
Sends requests with an absolute deadline; the only home of `requests` and urllib3.

One call is one try. It ends with a response, or with the reason for having none and whether the
request had begun. Sockets and connections find the call of their thread in a context variable:
each step of a socket gets only the remaining time, and the connection records that the request
begins. Nothing is logged here and no exception of the libraries escapes, because each of them
holds the request, and so a secret.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from finch_middleware.finch.responses import FinchResponse, NoResponse
from finch_middleware.secret import Secret
from finch_middleware.storage.forks import PerProcess

#: Finch's responses have a few hundred bytes.
BODY_LIMIT_BYTES = 64 * 1024

# This limit counts headers, interim responses, trailers and the framing of chunks as well.
_RECEIVED_LIMIT_BYTES = 8 * BODY_LIMIT_BYTES

# Many servers close an idle connection after five seconds.
_KEPT_SECONDS = 4.0
_KEPT_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to send. Its repr shows neither headers nor body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


class Transport:
    """
    Sends requests. Thread-safe; may be made before a fork.

    The constructor does no I/O. The TLS context and the kept connections belong to one process
    id: after a fork, the child makes its own with its first request.
    """

    def __init__(self, *, proxy: Secret | None = None, ca_bundle: str | None = None) -> None:
        """
        Args:
            proxy: An ``http://`` URL, with credentials if the proxy needs them. HTTPS requests
                use it by CONNECT; plain requests to this machine do not use it.
            ca_bundle: A file of trusted certificates instead of certifi's.
        """
        ca_file = ca_bundle or DEFAULT_CA_BUNDLE_PATH
        self._adapter = PerProcess(lambda: _Adapter(_tls_context(ca_file), proxy=proxy))

    def send(self, request: Request, *, ends: float) -> FinchResponse | NoResponse:
        """The result of one try of *request*, by the instant *ends* of the monotonic clock."""
        call = _Call(ends)
        outer = _CALL.set(call)
        try:
            # A requests.Session would add cookies, redirects and settings of the environment.
            with self._adapter[os.getpid()].send(_prepared(request)) as response:
                return _read(response, call)
        # After the first byte each of them means that the response was not received.
        except Exception:  # whatever the libraries raise holds the request, and so a secret
            return call.no_response()
        finally:
            _CALL.reset(outer)


def _prepared(request: Request) -> requests.PreparedRequest:
    """The request as it is sent; requests would parse and quote what this package wrote."""
    prepared = requests.PreparedRequest()
    prepared.method, prepared.url, prepared.body = request.method, request.url, request.body
    # A plain dictionary: nothing looks one up by another case.
    headers: Any = {"Host": urlsplit(request.url).netloc, **request.headers}
    if request.method != "GET":
        headers["Content-Length"] = str(len(request.body or b""))
    prepared.headers = headers
    return prepared


def _read(response: Any, call: _Call) -> FinchResponse:
    received = partial(FinchResponse, status=response.status, headers=response.headers)
    if 300 <= response.status < 400 or response.status >= 500:
        return received()
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return received(fault="encoded")
    # The response of a test's mock has no length.
    if (getattr(response, "length", None) or 0) > BODY_LIMIT_BYTES:
        return received(fault="too_large")
    try:
        body = response.read(BODY_LIMIT_BYTES + 1)
    except Exception:  # as in `Transport.send` it holds a secret; here the status is known
        return received(fault=call.no_response().reason)
    return received(body=body) if len(body) <= BODY_LIMIT_BYTES else received(fault="too_large")


@dataclass(slots=True)
class _Call:
    """The current try of a thread, with the facts that the libraries' exceptions do not hold."""

    ends: float
    began: bool = False
    distrusted: bool = False
    received_bytes: int = 0

    def left(self) -> float:
        """The remaining seconds, above zero. Raises TimeoutError if there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def no_response(self) -> NoResponse:
        """The reason for having no response, from the recorded facts."""
        if not self.began:
            return NoResponse(began=False, reason="unreachable", again=not self.distrusted)
        if self.received_bytes > _RECEIVED_LIMIT_BYTES:
            return NoResponse(began=True, reason="too_large")
        return NoResponse(began=True, reason="reset" if time.monotonic() < self.ends else "timeout")


_CALL: ContextVar[_Call] = ContextVar("finch_middleware.finch.transport.call")


class _TimedSocket(socket.socket):
    """A socket whose every step gets only the remaining time of the call."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        call = _CALL.get()
        self.settimeout(call.left())
        count = super().recv_into(*args, **kwargs)
        call.received_bytes += count
        if call.received_bytes > _RECEIVED_LIMIT_BYTES:
            raise OSError("the response is too large")
        return count

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_CALL.get().left())
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_CALL.get().left())
        super().sendall(*args, **kwargs)


class _TimedTLSSocket(_TimedSocket, ssl.SSLSocket):
    """The same for TLS. It records that a certificate could not be verified."""

    sendall = ssl.SSLSocket.sendall  # it calls send for each part

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError:
            # ssl calls this before the handshake and leaves a broken connection open.
            self.close()
            raise

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_CALL.get().left())
        try:
            super().do_handshake(*args, **kwargs)
        except ssl.SSLCertVerificationError:
            _CALL.get().distrusted = True
            raise


class _Response(http.client.HTTPResponse):
    """A final response, with headers that can all be parsed."""

    connection: Any
    pool: _Pool

    def begin(self) -> None:
        super().begin()
        # RFC 9110, 15.2: a client passes over interim responses. http.client does so for 100
        # only, and begin() returns at once while there are headers. 101 changes the protocol.
        before_begin: Any = None
        while 101 < self.status < 200:
            self.headers = self.msg = before_begin
            super().begin()
        if self.status < 200:
            raise http.client.HTTPException("no final response")
        if self.msg.defects or self.msg.get_payload():
            raise http.client.HTTPException("headers that cannot be parsed")
        # urllib3 reads its own kind, which joins repeated ones.
        headers: Any = HTTPHeaderDict()
        for name, value in self.msg.raw_items():
            headers.add(name, value)
        self.headers = headers
        if len({each.strip() for each in headers.get("Content-Length", "").split(",")}) > 1:
            raise http.client.HTTPException("lengths that differ")

    def read(self, amt: int | None = None) -> bytes:
        """The body. Raises IncompleteRead if the connection closed before its end."""
        body = super().read(amt)
        # Without a length and a body, the connection closed within the headers.
        if self.length or (self.length is None and not self.chunked and not body):
            raise http.client.IncompleteRead(b"")
        return body

    def close(self) -> None:
        if self.will_close or not self.isclosed():
            self.connection.close()
        super().close()

    def __exit__(self, *_: object) -> None:
        """Close it, and let the next request have the connection."""
        self.close()
        self.connection.responded_at = time.monotonic()
        self.pool._put_conn(self.connection)


class _Connection(HTTPConnection):
    """A connection that states whether it can carry another request."""

    # With a debug level, http.client prints requests to a proxy to the standard output.
    debuglevel = 0
    responded_at = 0.0

    def _new_conn(self) -> socket.socket:
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, _, _, _, address) in enumerate(addresses):
            # An address that never responds must leave time for the others.
            share = _CALL.get().left() / (len(addresses) - tried)
            with contextlib.suppress(OSError):
                return _connect(family, address, within_seconds=share)
        raise OSError("no address of this host accepts a connection")

    @property
    def is_connected(self) -> bool:
        """Whether this kept connection can carry another request; urllib3 reads it before use."""
        if time.monotonic() - self.responded_at > _KEPT_SECONDS:
            return False
        # Surplus bytes would pass for the next response. super() does not see decrypted ones.
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        return super().is_connected


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """The kept connections to one server."""

    ConnectionCls = _Connection

    def urlopen(  # type: ignore[override]  # what requests passes, and what it needs
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_: object
    ) -> _Response:
        """Send a request once; the original prepares for retries, redirects and streams."""
        head = [f"{method} {url} HTTP/1.1", *map(": ".join, headers.items())]
        if not ("".join(head).isascii() and "".join(head).isprintable()):
            raise ValueError("a header that cannot be sent")
        message = "\r\n".join([*head, "", ""]).encode() + (body or b"")
        connection: Any = self._get_conn()
        try:
            if connection.sock is None and self.proxy:
                self._prepare_proxy(connection)
            elif connection.sock is None:
                connection.connect()
            _CALL.get().began = True
            # A server may respond and close before it has read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sock.sendall(message)
            response = _Response(connection.sock, method=method)
            response.connection, response.pool = connection, self
            response.begin()
        except BaseException:  # raised again; half a request is on this connection
            connection.close()
            self._put_conn(None)
            raise
        return response


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _connect(family: int, address: Any, *, within_seconds: float) -> socket.socket:
    with contextlib.ExitStack() as failing:
        sock = failing.enter_context(_TimedSocket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(within_seconds)
        sock.connect(address)
        failing.pop_all()
    return sock


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Trusts this file only; `ssl.create_default_context` follows the environment as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    context.sslsocket_class = _TimedTLSSocket
    return context


class _Adapter(HTTPAdapter):
    """requests' adapter with our connections, our TLS context and our proxy."""

    def __init__(self, context: ssl.SSLContext, *, proxy: Secret | None) -> None:
        super().__init__(max_retries=0)
        self._context, self._proxy = context, proxy
        self._pools: dict[tuple[str, ...], Any] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Any:
        """The pool for the server of *request*."""
        origin = urlsplit(str(request.url))[:2]
        return self._pools.get(origin) or self._pools.setdefault(origin, self._pool(*origin))

    def _pool(self, scheme: str, host: str) -> Any:
        kept: dict[str, Any] = {"maxsize": _KEPT_CONNECTIONS, "ssl_context": self._context}
        manager = urllib3.PoolManager(**kept)
        if self._proxy and scheme == "https":
            proxy = self._proxy.reveal()
            manager = urllib3.ProxyManager(proxy, proxy_headers=self.proxy_headers(proxy), **kept)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager.connection_from_url(f"{scheme}://{host}")

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the original adds requests' CA bundle to our context."""

    def request_url(self, request: requests.PreparedRequest, *args: Any) -> str:
        """The path: only a CONNECT goes to a proxy."""
        return request.path_url

    def build_response(self, request: requests.PreparedRequest, response: Any) -> Any:
        """What was received; the original reads cookies and guesses an encoding."""
        response.request, response.status_code = request, response.status
        return response
