"""The fake Finch as a server: keeps connections, is silent, ends at once, speaks TLS."""

from __future__ import annotations

import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from threading import enumerate as threads_alive
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.wrappers import Response

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch


@pytest.fixture
def fake() -> Iterator[FakeFinch]:
    with FakeFinch() as fake:
        yield fake


def body_of(fake: FakeFinch, code: str) -> dict[str, str]:
    return {"client_id": fake.client_id, "client_secret": fake.client_secret, "code": code}


def present(fake: FakeFinch, code: str, *, http: Any = requests, **options: Any) -> Any:
    return http.post(
        fake.api_url + "/auth/token",
        json=body_of(fake, code),
        headers={"Finch-API-Version": "2020-09-17"},
        timeout=5,
        **options,
    )


def send(fake: FakeFinch, code: str) -> socket.socket:
    """A socket on which a whole exchange was asked for, and nothing read yet."""
    body = json.dumps(body_of(fake, code))
    head = (
        "POST /auth/token HTTP/1.1\r\nHost: x\r\nFinch-API-Version: 2020-09-17\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port_of(fake)), timeout=5)
    connection.sendall((head + body).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def port_of(fake: FakeFinch) -> int:
    return int(fake.api_url.rsplit(":", 1)[1])


class TestConnections:
    def test_a_connection_serves_many_requests(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            for _ in range(20):
                present(fake, "c", http=http)

        assert fake.connections_accepted == 1
        assert fake.ledger.calls("token") == 20

    def test_a_body_in_chunks_is_recorded_whole(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            http.post(fake.api_url + "/auth/token", data=iter([b"ab", b"c"]), timeout=5)
            present(fake, "c", http=http)

        assert fake.ledger.requests[0].body == b"abc"
        assert fake.connections_accepted == 1

    def test_a_head_gets_no_body_and_the_connection_goes_on(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            head = http.head(fake.api_url + "/authorize", timeout=5)
            after = present(fake, fake.issue_code(customer_id="a"), http=http)

        assert (head.content, after.status_code) == (b"", 200)
        assert fake.connections_accepted == 1

    def test_an_oversized_body_is_refused_and_not_kept(self, fake: FakeFinch) -> None:
        with socket.create_connection(("127.0.0.1", port_of(fake)), timeout=5) as connection:
            connection.sendall(b"POST /auth/token HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n")
            answer = read_all(connection)

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert fake.ledger.requests == ()

    def test_it_says_nothing_whatever_clients_do(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with FakeFinch() as fake:
            for garbage in (b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET /\x80 HTTP/9.9\r\n\r\n"):
                with socket.create_connection(("127.0.0.1", port_of(fake))) as connection:
                    connection.sendall(garbage)
            fake.script("token", Behaviour.huge(10_000_000))
            send(fake, "c").close()
            present(fake, "c")

        assert capfd.readouterr() == ("", "")
        assert [record for record in caplog.records if record.name == "werkzeug"] == []


class TestStopping:
    def test_it_ends_at_once_and_leaves_no_thread(self) -> None:
        before = set(threads_alive())
        fake = FakeFinch().start()
        fake.script(
            "token",
            Behaviour.stall(),
            Behaviour.hold(Event()),
            Behaviour.delay(60),
            Behaviour.drip_headers(pace_seconds=60),
            Behaviour.huge(10**12),
            Behaviour.normal(),
        )
        open_connections = [send(fake, "c") for _ in range(6)]
        open_connections.append(socket.create_connection(("127.0.0.1", port_of(fake))))
        open_connections[-1].sendall(b"POST /auth/token HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        fake.ledger.wait_for_calls("token", count=6)
        began = time.monotonic()

        fake.stop()

        assert time.monotonic() - began < 0.5
        assert set(threads_alive()) == before
        for connection in open_connections:
            connection.close()

    def test_it_comes_back_on_the_same_port_with_the_same_ledger(self) -> None:
        fake = FakeFinch()
        with fake:
            code = fake.issue_code(customer_id="a")
            present(fake, "unknown")
        with pytest.raises(requests.ConnectionError):
            present(fake, code)

        with fake:
            answer = present(fake, code)

        assert answer.status_code == 200
        assert fake.ledger.calls("token") == fake.connections_accepted == 2

    def test_it_has_no_address_before_its_first_start(self) -> None:
        with pytest.raises(RuntimeError, match="no address"):
            _ = FakeFinch().api_url

    def test_it_starts_once_and_stops_as_often_as_asked(self, fake: FakeFinch) -> None:
        with pytest.raises(RuntimeError, match="already running"):
            fake.start()

        fake.stop()
        fake.stop()

    def test_a_taken_port_is_an_error_without_noise(
        self, fake: FakeFinch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(OSError, match="in use"):
            FakeFinch(port=port_of(fake)).start()

        assert capfd.readouterr() == ("", "")

    def test_an_error_of_its_own_comes_out_at_the_end(self) -> None:
        def failing(response: Response) -> Response:
            raise KeyError("missing")

        fake = FakeFinch().start()
        fake.script("token", Behaviour(shape=failing))
        with pytest.raises(requests.ConnectionError):
            present(fake, "c")

        with pytest.raises(RuntimeError, match="itself failed") as raised:
            fake.stop()

        assert isinstance(raised.value.__cause__, KeyError)

    def test_a_process_of_its_own_serves_until_interrupted(self) -> None:
        with FakeFinch() as free:
            port = port_of(free)
        program = (
            "from finch_middleware.testing.fake_finch import FakeFinch\n"
            f"fake = FakeFinch(port={port}).start()\nprint('up', flush=True)\nfake.serve_forever()"
        )
        pipe = subprocess.PIPE

        with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            process.stdout.readline()
            book = requests.get(f"http://127.0.0.1:{port}/_fake/ledger", timeout=5).json()
            process.send_signal(signal.SIGINT)
            noise = process.communicate(timeout=5)

        assert book["tokens"] == []
        assert (process.returncode, noise) == (0, (b"", b""))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for ``localhost`` that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, plain))
    return folder / "cert.pem", folder / "key.pem"


class TestTls:
    def test_it_serves_its_certificate_and_keeps_connections(
        self, certificate: tuple[Path, Path]
    ) -> None:
        with FakeFinch(tls=certificate) as fake, requests.Session() as http:
            http.verify, http.trust_env = str(certificate[0]), False
            url = f"https://localhost:{port_of(fake)}/_fake/ledger"
            answers = [http.get(url, timeout=5).status_code for _ in range(3)]

        assert fake.api_url.startswith("https://127.0.0.1:")
        assert (answers, fake.connections_accepted) == ([200] * 3, 1)

    def test_a_stalled_or_failed_handshake_hinders_nobody(
        self, certificate: tuple[Path, Path]
    ) -> None:
        before = set(threads_alive())
        fake = FakeFinch(tls=certificate).start()
        stalled = socket.create_connection(("127.0.0.1", port_of(fake)), timeout=5)

        with pytest.raises(requests.exceptions.SSLError):
            present(fake, "c")
        with requests.Session() as http:
            http.verify, http.trust_env = str(certificate[0]), False
            answer = http.get(f"https://localhost:{port_of(fake)}/_fake/ledger", timeout=5)
        began = time.monotonic()
        fake.stop()

        assert time.monotonic() - began < 0.5
        assert (answer.status_code, fake.ledger.calls("token")) == (200, 0)
        assert set(threads_alive()) == before
        stalled.close()

    def test_a_reset_is_a_reset_below_tls_too(self, certificate: tuple[Path, Path]) -> None:
        context = ssl.create_default_context(cafile=certificate[0])
        # TLS 1.3 sends tickets after the handshake; here only the reset may come.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with FakeFinch(tls=certificate) as fake:
            fake.script("introspect", Behaviour.reset())
            plain = socket.create_connection(("127.0.0.1", port_of(fake)), timeout=5)
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                secured.sendall(b"GET /introspect HTTP/1.1\r\n\r\n")

                # Python's ssl reads a reset as an end: ask the socket below.
                with pytest.raises(ConnectionResetError):
                    socket.socket.recv(secured, 1)
