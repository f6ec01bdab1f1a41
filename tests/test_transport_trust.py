"""Which servers the transport trusts, and that the environment changes nothing."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from finch_middleware import FinchConnect
from finch_middleware.errors import ConfigurationError
from finch_middleware.finch import transport
from finch_middleware.finch.transport import Transport
from finch_middleware.secret import Secret
from tests.asking import DISTRUSTED, UNREACHABLE, answered, ask, trusting
from tests.odd_server import OddServer, answering, authority, connect_proxy, raw_answer
from tests.test_finch_secrets import shown_by

# -- TLS --


def test_a_certificate_of_the_given_bundle_is_trusted() -> None:
    client = trusting()
    with OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server:
        result = ask(server, transport=client)

    assert answered(result).body == b"{}"


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "other name"])
def test_a_bad_certificate_is_refused_before_anything_is_sent_and_not_tried_again(
    fault: str,
) -> None:
    tls = {
        "unknown authority": authority().server(),
        "expired": authority().server(days=(-3, -2)),
        "other name": authority().server("finch.example"),
    }[fault]
    client = Transport() if fault == "unknown authority" else trusting()
    with OddServer(answering(raw_answer(b"{}")), tls=tls) as server:
        result = ask(server, transport=client)

        assert server.received_bytes == 0
    assert result == DISTRUSTED


def test_a_missing_bundle_sends_nothing(tmp_path: Path) -> None:
    client = Transport(ca_bundle=str(tmp_path / "absent.pem"))
    with OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server:
        result = ask(server, transport=client)

        assert server.accepted == 0
    assert result == UNREACHABLE


def test_the_context_is_one_for_the_process_and_trusts_no_more_than_its_file() -> None:
    client = trusting()
    made = threading.Barrier(8)
    adapters: list[transport._Adapter] = []

    def send(server: OddServer) -> None:
        made.wait()
        answered(ask(server, transport=client))
        adapters.append(client._adapter[os.getpid()])

    with OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server:
        threads = [threading.Thread(target=send, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    contexts = {id(adapter._context) for adapter in adapters}
    context = adapters[0]._context
    assert (len(adapters), len(contexts)) == (8, 1)
    assert context.cert_store_stats()["x509_ca"] == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.keylog_filename


def test_without_a_bundle_the_authorities_are_certifis() -> None:
    expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    expected.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)

    context = Transport()._adapter[os.getpid()]._context

    assert context.cert_store_stats() == expected.cert_store_stats()


def test_making_a_transport_makes_no_context() -> None:
    one = Transport()

    assert one._adapter == {}


# -- proxies and the environment --


@pytest.mark.usefixtures("kept_long")
def test_tls_goes_through_the_configured_proxy() -> None:
    with (
        OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server,
        connect_proxy(server) as proxy,
    ):
        url = proxy.url.replace("//", "//user:pass@")
        client = Transport(proxy=Secret(url), ca_bundle=str(authority().bundle))

        first = ask(server, transport=client)
        second = ask(server, transport=client)

        assert (proxy.accepted, server.accepted, len(server.requests)) == (1, 1, 2)
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())
        assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in proxy.requests[0]
        assert b"Proxy-Authorization" not in server.requests[0]
    assert answered(first).body == answered(second).body == b"{}"


def test_plain_requests_to_loopback_do_not_use_the_proxy() -> None:
    with (
        OddServer(answering(raw_answer(b"{}"))) as server,
        OddServer(answering(raw_answer(b"{}"))) as proxy,
    ):
        ask(server, transport=Transport(proxy=Secret(proxy.url)))

        assert (server.accepted, proxy.accepted) == (1, 0)


def test_a_proxy_that_refuses_is_unreachable() -> None:
    with (
        OddServer(answering(raw_answer(b"{}")), tls=authority().server()) as server,
        connect_proxy(server, status="407 Proxy Authentication Required") as proxy,
    ):
        client = Transport(proxy=Secret(proxy.url), ca_bundle=str(authority().bundle))

        result = ask(server, transport=client)

        assert (len(proxy.requests), server.accepted) == (1, 0)
    assert result == UNREACHABLE


PASSWORD = "c4n4ry"


@pytest.mark.parametrize(
    "refused",
    [
        lambda: FinchConnect(client_id="c", proxy=f"http://user:{PASSWORD}@proxy:port"),
        lambda: FinchConnect(client_id="c", proxy=f"http://user:{PASSWORD}@proxy:3128"),
    ],
    ids=["unusable", "beside other faults"],
)
def test_no_refusal_shows_the_password_of_a_proxy(refused: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refused()

    assert PASSWORD not in shown_by(caught.value)
