"""The fake Finch's server with a function in place of Finch: it sends any bytes at any time."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import ipaddress
import re
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from finch_middleware.testing.fake_finch.wire import Server, reset

Behaviour = Callable[["Line"], None]


def raw_answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """The bytes of an answer; Content-Length is added unless a framing is given."""
    lines = [f"HTTP/1.1 {status}", "Finch-Request-Id: req-1", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Line:
    """One connection, as the server sees it."""

    def __init__(self, server: OddServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self._read = b""

    def secure(self, tls: ssl.SSLContext) -> None:
        """Do the TLS handshake."""
        self.sock = secured = self.server.secure(self.sock, tls)
        secured.do_handshake()

    def request(self) -> bytes:
        """The next whole request, recorded; empty when the client has gone."""
        head = self._until(lambda: b"\r\n\r\n" in self._read) and self._read.split(b"\r\n\r\n")[0]
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        whole = len(head) + 4 + (int(length[1]) if length else 0)
        if not head or not self._until(lambda: len(self._read) >= whole):
            return b""
        request, self._read = self._read[:whole], self._read[whole:]
        self.server.requests.append(request)
        return request

    def _until(self, complete: Callable[[], bool]) -> bytes:
        """What was read, once it is *complete*; empty when the client has gone."""
        while not complete():
            chunk = self.sock.recv(65536)
            if not chunk:
                return b""
            self._read += chunk
            self.server.received_bytes += len(chunk)
        return self._read

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, *, every: float = 0.02) -> None:
        """Send a byte at a time until all is sent or the test is over."""
        for byte in data:
            if self.wait(every):
                return
            self.send(bytes([byte]))

    def wait(self, seconds: float | None = None) -> bool:
        """Stall until the test is over, or for so long; whether the test is over."""
        return self.server.stopping.wait(seconds)

    def reset(self) -> None:
        """End the connection with a RST."""
        reset(self.sock)


class OddServer(Server):
    """Use it as a context manager; it listens on loopback and stops with the block."""

    def __init__(self, behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._converse, tls=tls)
        self._behave = behave
        self.requests: list[bytes] = []
        self.received_bytes = 0
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def end_conversations(self) -> None:
        """Return once each connection so far was served to its end, and closed."""
        for thread in list(self._open):
            thread.join()

    def _converse(self, sock: socket.socket, *_: object) -> None:
        line = Line(self, sock)
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            self._behave(line)
        finally:
            self.shutdown_request(line.sock)


def answering(*answers: bytes) -> Behaviour:
    """Keeps connections, and gives these answers in turn; the last one to all that follow."""
    left = list(answers)
    lock = threading.Lock()

    def behave(line: Line) -> None:
        while line.request():
            with lock:
                answer = left.pop(0) if len(left) > 1 else left[0]
            line.send(answer)

    return behave


def parsed(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """The first line of a recorded request, its headers in lower case, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return first, {name.lower(): value for name, value in pairs}, body


def once(raw: bytes, *, then: Behaviour = lambda line: None) -> Behaviour:
    """Reads one request, sends *raw*, does *then* and closes the connection."""

    def behave(line: Line) -> None:
        line.request()
        line.send(raw)
        then(line)

    return behave


def endlessly(piece: bytes, *, first: bytes = b"") -> Behaviour:
    """Reads one request, and sends *first* and then *piece* as often as the client takes it."""

    def send(line: Line) -> None:
        while not line.server.stopping.is_set():
            line.send(piece)

    return once(first, then=send)


def stall(line: Line) -> None:
    """Accepts the connection, and no more than that."""
    line.wait()


@contextlib.contextmanager
def connect_proxy(target: OddServer, *, status: str = "200 OK") -> Iterator[OddServer]:
    """A proxy that tunnels every CONNECT to *target*, whatever name was asked for."""

    def behave(line: Line) -> None:
        line.request()
        line.send(f"HTTP/1.1 {status}\r\n\r\n".encode())
        if not status.startswith("200"):
            return
        with socket.create_connection(("127.0.0.1", target.port)) as onward:
            back = threading.Thread(target=_copy, args=(onward, line.sock), daemon=True)
            back.start()
            _copy(line.sock, onward)
            back.join()

    with OddServer(behave) as proxy:
        yield proxy


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority of the test's own; its certificate is in the file `bundle`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's CA")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._certificate(self._name, self._key.public_key(), -1, 1)
        certificate = certificate.add_extension(ca, critical=True)
        certificate = certificate.add_extension(_SIGNS_CERTIFICATES, critical=True)
        self.bundle = folder / "ca.pem"
        signed = certificate.sign(self._key, hashes.SHA256())
        self.bundle.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "127.0.0.1", *, days: tuple[int, int] = (-1, 1)) -> ssl.SSLContext:
        """A server's context, with a certificate for *name* that is valid for those days."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate(name, days=days))
        return context

    def certificate(self, name: str = "127.0.0.1", *, days: tuple[int, int] = (-1, 1)) -> Path:
        """A file with such a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._certificate(subject, key.public_key(), *days)
        names = x509.SubjectAlternativeName([_general_name(name)])
        signed = certificate.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        file = self._folder / f"{signed.serial_number}.pem"
        encoding = serialization.Encoding.PEM
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write_bytes(signed.public_bytes(encoding) + key.private_bytes(encoding, form, plain))
        return file

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, first_day: int, last_day: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        # From Python 3.13 on, a certificate without these two ids is refused.
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + datetime.timedelta(days=first_day))
        builder = builder.not_valid_after(now + datetime.timedelta(days=last_day))
        builder = builder.add_extension(ours, critical=False)
        own = x509.SubjectKeyIdentifier.from_public_key(key)
        return builder.add_extension(own, critical=False)


@functools.cache
def authority() -> Authority:
    """One authority for all tests; its files go when the process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return Authority(Path(folder))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
