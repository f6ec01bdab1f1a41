"""The fake Finch as a server: keeps connections, prints nothing, stops at once, speaks TLS."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from threading import Event, Thread, enumerate as enumerate_threads

import pytest
import requests
from requests.adapters import HTTPAdapter
from werkzeug.wrappers import Response

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.odd_server import authority
from tests.processes import free_port
from tests.testing.asking_fake import connect, port_of, present, read_all, send


def threads_of_fakes() -> set[Thread]:
    return {each for each in enumerate_threads() if each.name.startswith("fake-finch")}


def connections_of(http: requests.Session, fake: FakeFinch) -> int:
    """How many connections the session has opened to the fake."""
    adapter = http.get_adapter(fake.api_url)
    assert isinstance(adapter, HTTPAdapter)
    pools = adapter.poolmanager.pools
    return sum(pools[key].num_connections for key in pools.keys())  # noqa: SIM118  # no dict


class TestConnections:
    def test_a_connection_serves_many_requests(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            for _ in range(20):
                present(fake, "c", http=http)

            assert connections_of(http, fake) == 1

        assert fake.ledger.calls("token") == 20

    def test_a_body_in_chunks_is_recorded_whole(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            http.post(fake.api_url + "/auth/token", data=iter([b"ab", b"c"]), timeout=60)
            present(fake, "c", http=http)
            assert connections_of(http, fake) == 1

        assert fake.ledger.requests[0].body == b"abc"

    def test_a_head_gets_no_body_and_the_connection_continues(self, fake: FakeFinch) -> None:
        with requests.Session() as http:
            head = http.head(fake.api_url + "/authorize", timeout=60)
            after = present(fake, fake.issue_code(customer_id="a"), http=http)
            assert connections_of(http, fake) == 1

        assert (head.content, after.status_code) == (b"", 200)

    def test_an_oversized_body_is_refused_and_not_kept(self, fake: FakeFinch) -> None:
        with connect(fake) as connection:
            connection.sendall(b"POST /auth/token HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n")
            response = read_all(connection)

        assert response.startswith(b"HTTP/1.1 413 ")
        assert fake.ledger.requests == ()

    def test_it_prints_nothing_whatever_clients_do(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with FakeFinch() as fake:
            for garbage in (b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET /\x80 HTTP/9.9\r\n\r\n"):
                with connect(fake) as connection:
                    connection.sendall(garbage)
            fake.script("token", Behaviour.huge(10_000_000))
            send(fake, "c").close()
            present(fake, "c")

        assert capfd.readouterr() == ("", "")
        assert [record for record in caplog.records if record.name == "werkzeug"] == []


class TestStopping:
    def test_it_ends_at_once_and_leaves_no_thread(self) -> None:
        before = threads_of_fakes()
        fake = FakeFinch().start()
        fake.script(
            "token",
            Behaviour.stall(),
            Behaviour.hold(Event()),
            Behaviour.delay(3600),
            Behaviour.drip_headers(pace_seconds=3600),
            Behaviour.huge(10**12),
            Behaviour(),
        )
        open_connections = [send(fake, "c") for _ in range(6)]
        open_connections.append(connect(fake))
        open_connections[-1].sendall(b"POST /auth/token HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        fake.ledger.wait_for_calls("token", count=6)

        fake.stop()

        # And not after an hour, which each of the scripted waits takes.
        assert threads_of_fakes() <= before
        for connection in open_connections:
            connection.close()

    def test_it_restarts_on_the_same_port_with_the_same_ledger(self) -> None:
        fake = FakeFinch(port=free_port())
        with fake:
            code = fake.issue_code(customer_id="a")
            present(fake, "unknown")
        with pytest.raises(requests.ConnectionError):
            present(fake, code)

        with fake:
            response = present(fake, code)

        assert response.status_code == 200
        assert fake.ledger.calls("token") == 2

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

    def test_an_error_of_its_own_is_raised_when_it_stops(self) -> None:
        def failing(response: Response) -> Response:
            raise KeyError("missing")

        fake = FakeFinch().start()
        fake.script("token", Behaviour(shape=failing))
        with pytest.raises(requests.ConnectionError):
            present(fake, "c")

        with pytest.raises(RuntimeError, match="itself failed") as raised:
            fake.stop()

        assert isinstance(raised.value.__cause__, KeyError)


@contextlib.contextmanager
def trusting() -> Iterator[requests.Session]:
    with requests.Session() as http:
        http.verify, http.trust_env = str(authority().bundle), False
        yield http


class TestTls:
    def test_it_serves_its_certificate_and_keeps_connections(self) -> None:
        with FakeFinch(tls=authority().server()) as fake, trusting() as http:
            statuses = [http.get(fake.api_url + "/_fake/ledger").status_code for _ in range(3)]
            connections = connections_of(http, fake)

        assert fake.api_url.startswith("https://127.0.0.1:")
        assert (statuses, connections) == ([200] * 3, 1)

    def test_a_stalled_or_failed_handshake_delays_no_other_client(self) -> None:
        before = threads_of_fakes()
        fake = FakeFinch(tls=authority().server()).start()
        stalled = connect(fake)

        with pytest.raises(requests.exceptions.SSLError):
            present(fake, "c")
        with trusting() as http:
            response = http.get(fake.api_url + "/_fake/ledger")
        fake.stop()

        assert (response.status_code, fake.ledger.calls("token")) == (200, 0)
        assert threads_of_fakes() <= before
        stalled.close()

    def test_a_reset_is_a_reset_below_tls_too(self) -> None:
        context = ssl.create_default_context(cafile=authority().bundle)
        # TLS 1.3 sends tickets after the handshake; here only the reset may come.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with FakeFinch(tls=authority().server()) as fake:
            fake.script("introspect", Behaviour.reset())
            with context.wrap_socket(connect(fake), server_hostname="127.0.0.1") as secured:
                secured.sendall(b"GET /introspect HTTP/1.1\r\n\r\n")

                # Python's ssl reads a reset as an end: read the socket below.
                with pytest.raises(ConnectionResetError):
                    socket.socket.recv(secured, 1)
