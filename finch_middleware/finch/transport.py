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
import socket
import ssl
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from finch_middleware.config.urls import usable_proxy
from finch_middleware.errors import ConfigurationError
from finch_middleware.secret import Secret
from finch_middleware.storage.forks import PerProcess

#: Finch's responses have a few hundred bytes.
BODY_LIMIT_BYTES = 64 * 1024

# This limit counts headers, interim responses, trailers and the framing of chunks as well.
_RECEIVED_LIMIT_BYTES = 8 * BODY_LIMIT_BYTES

# Many servers close an idle connection after five seconds.
_KEPT_SECONDS = 4.0
_KEPT_CONNECTIONS = 64


class Deadline:
    """The instant at which a call must have ended, on the monotonic clock."""

    __slots__ = ("_ends", "within")

    def __init__(self, within: timedelta) -> None:
        self.within = within
        self._ends = time.monotonic() + within.total_seconds()

    def left(self) -> float:
        """The remaining seconds; zero or less once the deadline has passed."""
        return self._ends - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to send. Its repr shows neither headers nor body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinchResponse:
    """
    A response: its status, and its body if it was read completely.

    Attributes:
        headers: Their names ignore case.
        body: None if there is a `fault`. Also None for redirects and server errors, whose bodies
            are not read.
        fault: ``encoded``, ``too_large``, ``timeout`` or ``reset``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoResponse:
    """
    A request without a response.

    Attributes:
        began: Whether the first byte of the request may have left this machine.
        reason: ``timeout``, ``reset`` or ``too_large``; ``unreachable`` if it had not begun.
        again: Whether another try may succeed; False if the request had begun.
    """

    began: bool
    reason: str
    again: bool = False


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

        Raises:
            ConfigurationError: The proxy is not such a URL.
        """
        if proxy is not None and not usable_proxy(proxy.reveal()):
            raise ConfigurationError(["proxy: must be an http:// URL, such as http://host:port"])
        self._proxy = proxy
        ca_file = ca_bundle or DEFAULT_CA_BUNDLE_PATH
        self._adapter = PerProcess(lambda: _Adapter(_tls_context(ca_file)))

    def send(self, request: Request, *, deadline: Deadline) -> FinchResponse | NoResponse:
        """The result of one try of *request*, by *deadline*."""
        call = _Call(deadline)
        outer = _CALL.set(call)
        try:
            return self._respond(request, call)
        # After the first byte each of them means that the response was not received.
        except Exception:  # whatever the libraries raise holds the request, and so a secret
            return call.no_response()
        finally:
            _CALL.reset(outer)

    def _respond(self, request: Request, call: _Call) -> FinchResponse:
        prepared = requests.Request(
            request.method, request.url, headers=dict(request.headers), data=request.body
        ).prepare()
        adapter = self._adapter.get()
        proxies = {"https": self._proxy.reveal()} if self._proxy else {}
        # A requests.Session would add cookies, redirects and settings of the environment.
        with adapter.send(
            prepared, stream=True, timeout=call.left(), verify=True, proxies=proxies
        ) as response:
            return _read(response, call)


def _read(response: requests.Response, call: _Call) -> FinchResponse:
    status, headers = response.status_code, response.headers
    if 300 <= status < 400 or status >= 500:
        return FinchResponse(status=status, headers=headers)
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return FinchResponse(status=status, headers=headers, fault="encoded")
    try:
        body = _body(response)
    except Exception:  # as in `Transport.send` it holds a secret; here the status is known
        return FinchResponse(status=status, headers=headers, fault=call.no_response().reason)
    if body is None:
        return FinchResponse(status=status, headers=headers, fault="too_large")
    return FinchResponse(status=status, headers=headers, body=body)


def _body(response: requests.Response) -> bytes | None:
    """The body, or None if it is too large; at most one byte over the limit is read."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and len(announced) < 19 and int(announced) > BODY_LIMIT_BYTES:
        return None
    body = bytearray()
    while wanted := BODY_LIMIT_BYTES + 1 - len(body):
        chunk = response.raw.read(wanted, decode_content=False)
        if not chunk:
            break
        body += chunk
    framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    if not body and not framed:
        raise OSError("the connection closed within the headers")
    return bytes(body) if len(body) <= BODY_LIMIT_BYTES else None


@dataclass(slots=True)
class _Call:
    """The current try of a thread, with the facts that the libraries' exceptions do not hold."""

    deadline: Deadline
    began: bool = False
    distrusted: bool = False
    received_bytes: int = 0

    def left(self) -> float:
        """
        The remaining seconds, above zero, which would make a socket non-blocking.

        Raises:
            TimeoutError: No time remains.
        """
        left = self.deadline.left()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def received(self, count: int) -> None:
        """Count received bytes. Raises OSError above the limit."""
        self.received_bytes += count
        if self.received_bytes > _RECEIVED_LIMIT_BYTES:
            raise OSError("the response is too large")

    def no_response(self) -> NoResponse:
        """The reason for having no response, from the recorded facts."""
        if not self.began:
            return NoResponse(began=False, reason="unreachable", again=not self.distrusted)
        if self.received_bytes > _RECEIVED_LIMIT_BYTES:
            return NoResponse(began=True, reason="too_large")
        return NoResponse(began=True, reason="reset" if self.deadline.left() > 0 else "timeout")


_CALL: ContextVar[_Call] = ContextVar("finch_middleware.finch.transport.call")


class _TimedSocket(socket.socket):
    """A socket whose every step gets only the remaining time of the call."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_CALL.get().left())
        count = super().recv_into(*args, **kwargs)
        _CALL.get().received(count)
        return count

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_CALL.get().left())
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_CALL.get().left())
        super().sendall(*args, **kwargs)


class _TimedTLSSocket(_TimedSocket, ssl.SSLSocket):
    """The same for TLS. It records that a certificate could not be verified."""

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


class _StrictResponse(http.client.HTTPResponse):
    """A final response, with headers that can all be parsed."""

    def begin(self) -> None:
        super().begin()
        # RFC 9110, 15.2: a client passes over interim responses. http.client does so for 100
        # only, and begin() returns at once while there are headers. 101 changes the protocol.
        while 101 < self.status < 200:
            self.headers = self.msg = None  # type: ignore[assignment]  # its __init__ does so
            super().begin()
        if self.status < 200:
            raise http.client.HTTPException("no final response")
        # urllib3 logs the lines that it cannot parse; one of them may hold the token.
        if self.msg.defects or self.msg.get_payload():
            raise http.client.HTTPException("headers that cannot be parsed")


class _Connection(HTTPConnection):
    """A connection that records when a request begins and whether it can carry another."""

    response_class = _StrictResponse
    # With a debug level, http.client prints every request to the standard output.
    debuglevel = 0
    _responded_at = 0.0

    def _new_conn(self) -> socket.socket:
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, _, _, _, address) in enumerate(addresses):
            # An address that never responds must leave time for the others.
            share = _CALL.get().left() / (len(addresses) - tried)
            with contextlib.suppress(OSError):
                return _connect(family, address, within_seconds=share)
        raise OSError("no address of this host accepts a connection")

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        # Not in send(), which also carries the CONNECT to a proxy, before the request begins.
        if self.sock is None:
            self.connect()
        _CALL.get().began = True
        super().endheaders(*args, **kwargs)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._responded_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether this kept connection can carry another request; urllib3 reads it before use."""
        if time.monotonic() - self._responded_at > _KEPT_SECONDS:
            return False
        # Surplus bytes would pass for the next response. super() does not see decrypted ones.
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        return super().is_connected


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _TLSPool}


def _connect(family: int, address: Any, *, within_seconds: float) -> socket.socket:
    with contextlib.ExitStack() as failing:
        sock = failing.enter_context(_TimedSocket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(within_seconds)
        sock.connect(address)
        failing.pop_all()
    return sock


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """
    A context that verifies certificates and trusts this file only.

    Unlike `ssl.create_default_context` it ignores SSL_CERT_FILE and SSLKEYLOGFILE.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    context.sslsocket_class = _TimedTLSSocket
    return context


class _Adapter(HTTPAdapter):
    """requests' adapter with our connections and our TLS context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=_KEPT_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context
        )
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the original adds requests' CA bundle to our context."""
