"""
Requests with an absolute deadline: the only home of `requests` and urllib3.

A call is one try: a request and its answer, or one word on why there is none, and above all
whether the request had begun. Sockets and connections know the call of their thread: each
step of a socket gets only the time that is left, and the connection notes that the request
begins. Nothing is logged here, and no exception of the libraries below gets out, because
each of them keeps the request, and with it a secret.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
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

#: Finch's answers are a few hundred bytes; what is longer is something else.
BODY_LIMIT_BYTES = 64 * 1024

# Headers, interim answers, trailers and the framing of chunks are counted here too.
_RECEIVED_LIMIT_BYTES = 8 * BODY_LIMIT_BYTES

# RFC 9110, 15.2: a client must be able to parse one or more, expected or not.
_INTERIM_LIMIT = 32

# Shorter than the five seconds after which many servers close an idle connection.
_KEPT_SECONDS = 4.0
_KEPT_CONNECTIONS = 64


class Deadline:
    """The instant by which everything must have happened, on the monotonic clock."""

    __slots__ = ("_ends", "within")

    def __init__(self, within: timedelta) -> None:
        self.within = within
        self._ends = time.monotonic() + within.total_seconds()

    def left(self) -> float:
        """Seconds that are left; zero or less when it has passed."""
        return self._ends - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it shall go out. Its repr does not show what it carries."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinchResponse:
    """
    A status, and the body if it could be read whole.

    Attributes:
        headers: Looked up without regard to case.
        body: None if `fault` says why not, and with a redirect or a server's own error,
            whose bodies mean nothing and are not read.
        fault: ``encoded``, ``too_large``, ``timeout`` or ``reset``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoResponse:
    """
    A request without an answer.

    Attributes:
        began: Whether its first byte may have left this machine.
        reason: ``timeout``, ``reset`` or ``too_large``; if it had not begun, ``unreachable``.
        again: Whether a second try may go better: never if it had begun.
    """

    began: bool
    reason: str
    again: bool = False


class Transport:
    """
    Sends requests. Thread-safe; may be made before a fork.

    Making it does no I/O. The TLS context and the kept connections belong to one process id:
    after a fork the child makes its own when it first sends.
    """

    def __init__(self, *, proxy: Secret | None = None, ca_bundle: str | None = None) -> None:
        """
        Args:
            proxy: An ``http://`` URL, with credentials where it wants them. TLS to the server
                goes through it by CONNECT; plain requests to loopback do not use it.
            ca_bundle: A file of trusted certificates, in place of certifi's.

        Raises:
            ConfigurationError: The proxy is not such a URL.
        """
        if proxy is not None and not usable_proxy(proxy.reveal()):
            raise ConfigurationError(["proxy is not an http:// URL; give http://host:port"])
        self._proxy = proxy
        self._ca_file = ca_bundle or DEFAULT_CA_BUNDLE_PATH
        self._adapters: dict[int, _Adapter] = {}
        self._locks: dict[int, threading.Lock] = {}

    def send(self, request: Request, *, deadline: Deadline) -> FinchResponse | NoResponse:
        """The answer to one try of *request*, at the latest when *deadline* ends."""
        call = _Call(deadline)
        outer = _CALL.set(call)
        try:
            return self._answer(request, call)
        # Whatever a library raises holds the request, and so a secret; and after the first
        # byte any fault at all means that the answer was not seen.
        except Exception:  # as said above
            return call.no_answer()
        finally:
            _CALL.reset(outer)

    def _answer(self, request: Request, call: _Call) -> FinchResponse:
        prepared = requests.Request(
            request.method, request.url, headers=dict(request.headers), data=request.body
        ).prepare()
        adapter = self._adapter()
        proxies = {"https": self._proxy.reveal()} if self._proxy else {}
        # Not through a Session: no cookies, no redirects, nothing read from the environment.
        with adapter.send(
            prepared, stream=True, timeout=call.left(), verify=True, proxies=proxies
        ) as response:
            return _read(response, call)

    def _adapter(self) -> _Adapter:
        pid = os.getpid()
        if pid in (adapters := self._adapters):
            return adapters[pid]
        # A lock per process id: one that some thread held at the fork is held for ever after.
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._adapters:
                # A new dict, so that the parent's connections are dropped.
                self._adapters = {pid: _Adapter(_tls_context(self._ca_file))}
            return self._adapters[pid]


def _read(response: requests.Response, call: _Call) -> FinchResponse:
    status, headers = response.status_code, response.headers
    if 300 <= status < 400 or status >= 500:
        return FinchResponse(status=status, headers=headers)
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return FinchResponse(status=status, headers=headers, fault="encoded")
    try:
        body = _body(response)
    # As in `Transport.send`; but the status stands.
    except Exception:  # as said above
        return FinchResponse(status=status, headers=headers, fault=call.no_answer().reason)
    if body is None:
        return FinchResponse(status=status, headers=headers, fault="too_large")
    return FinchResponse(status=status, headers=headers, body=body)


def _body(response: requests.Response) -> bytes | None:
    """The whole body, or None where it is too large; of that, one byte too many is read."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and len(announced) < 19 and int(announced) > BODY_LIMIT_BYTES:
        return None
    body = bytearray()
    while wanted := BODY_LIMIT_BYTES + 1 - len(body):
        chunk = response.raw.read(wanted, decode_content=False)
        if not chunk:
            return bytes(body)
        body += chunk
    return None


@dataclass(slots=True)
class _Call:
    """The try under way in a thread, and what the libraries' exceptions do not tell about it."""

    deadline: Deadline
    began: bool = False
    distrusted: bool = False
    received_bytes: int = 0

    def left(self) -> float:
        """
        Seconds that are left: more than zero, which a socket would take for "never wait".

        Raises:
            TimeoutError: None are.
        """
        left = self.deadline.left()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def received(self, count: int) -> None:
        """Count bytes. Raises OSError when they are more than any answer of Finch's has."""
        self.received_bytes += count
        if self.received_bytes > _RECEIVED_LIMIT_BYTES:
            raise OSError("the answer is too large")

    def no_answer(self) -> NoResponse:
        """Why there is no answer, from what was noted."""
        if not self.began:
            return NoResponse(began=False, reason="unreachable", again=not self.distrusted)
        if self.received_bytes > _RECEIVED_LIMIT_BYTES:
            return NoResponse(began=True, reason="too_large")
        return NoResponse(began=True, reason="reset" if self.deadline.left() > 0 else "timeout")


_CALL: ContextVar[_Call] = ContextVar("finch_middleware.finch.transport.call")


class _TimedSocket(socket.socket):
    """A socket each of whose steps gets only the time that is left to the call."""

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
    """The same under TLS. It notes a certificate that is not to be trusted."""

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError:
            # ssl asks before the handshake, and leaves a line that broke until then open.
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
    """A final answer whose headers can all be read."""

    def begin(self) -> None:
        super().begin()
        # http.client itself passes over 100 alone. After 101 another protocol begins.
        for _ in range(_INTERIM_LIMIT):
            if not 101 < self.status < 200:
                break
            # It does nothing where there are headers already.
            self.headers = self.msg = None  # type: ignore[assignment]  # as in its __init__
            super().begin()
        if self.status < 200:
            raise http.client.HTTPException("no final answer")
        # urllib3 logs the lines that it cannot parse, and one of them may be the token.
        if self.msg.defects or self.msg.get_payload():
            raise http.client.HTTPException("headers that cannot be parsed")


class _Connection(HTTPConnection):
    """A connection that notes when a request begins, and knows whether it can carry another."""

    response_class = _StrictResponse
    # http.client, told to debug, prints every request to the standard output.
    debuglevel = 0
    _answered_at = 0.0

    def _new_conn(self) -> socket.socket:
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, _, _, _, address) in enumerate(addresses):
            # An address that swallows packets must leave time for the others.
            share = _CALL.get().left() / (len(addresses) - tried)
            with contextlib.suppress(OSError):
                return _connected(family, address, within_seconds=share)
        raise OSError("no address of this name answers")

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        # Not in send(), through which a proxy is asked to CONNECT before the request begins.
        if self.sock is None:
            self.connect()
        _CALL.get().began = True
        super().endheaders(*args, **kwargs)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether this kept connection can carry another request; urllib3 asks before use."""
        if time.monotonic() - self._answered_at > _KEPT_SECONDS:
            return False
        # Surplus bytes would be taken for the next answer. A decrypted one is not on the line.
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


def _connected(family: int, address: Any, *, within_seconds: float) -> socket.socket:
    line = _TimedSocket(family, socket.SOCK_STREAM)
    try:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(within_seconds)
        line.connect(address)
    except BaseException:  # raised again; no socket is left open on the way
        line.close()
        raise
    return line


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """
    A context that verifies, and trusts this file alone.

    Unlike `ssl.create_default_context` it follows neither SSL_CERT_FILE nor SSLKEYLOGFILE.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    context.sslsocket_class = _TimedTLSSocket
    return context


class _Adapter(HTTPAdapter):
    """requests' adapter with our connections and our TLS context, which it cannot widen."""

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
        """Nothing: the original loads requests' CA bundle into whatever context there is."""
