"""Keys that a key service wraps: at hand before a code is spent, and never read anywhere else."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from finch_middleware import KeyUnavailable
from finch_middleware.crypto.keys import new_key, wrapped_key
from finch_middleware.errors import ConfigurationError
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.running import EXAMPLES
from tests.site import CALLBACK, Browser, Site, log_text

TOKEN = "the-token-of-the-key-service"


class KeyService(ThreadingHTTPServer):
    """
    A transit engine with one key.

    Attributes:
        asked: The verbs that it was asked, in order.
        away: Whether it answers 503.
        unwrapped: Every key that it gave out, in base64.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.cipher = AESGCM(os.urandom(32))
        self.asked: list[str] = []
        self.unwrapped: list[str] = []
        self.away = False
        self.short = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: KeyService

    def do_POST(self) -> None:
        verb = self.path.split("/")[3]
        fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(verb)
        allowed = self.headers["X-Vault-Token"] == TOKEN and not self.server.away
        body = json.dumps({"data": self._data(verb, fields)}).encode() if allowed else b"{}"
        self.send_response(200 if allowed else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _data(self, verb: str, fields: dict[str, str]) -> dict[str, str]:
        nonce = b"\x00" * 12
        if verb == "encrypt":
            sealed = self.server.cipher.encrypt(nonce, fields["plaintext"].encode(), b"")
            return {"ciphertext": "vault:v1:" + base64.b64encode(sealed).decode()}
        sealed = base64.b64decode(fields["ciphertext"].rpartition(":")[2])
        plain = self.server.cipher.decrypt(nonce, sealed, b"").decode()
        self.server.unwrapped.append(plain)
        return {"plaintext": plain[:16] if self.server.short else plain}

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[KeyService]:
    with KeyService() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def provider(service: KeyService, monkeypatch: pytest.MonkeyPatch) -> Any:
    # A test does not wait until a service that was away is asked again.
    monkeypatch.setattr("finch_middleware.crypto.vault._LEFT_ALONE_SECONDS", 0.0)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from kms import TransitKeys

    return TransitKeys(service.url, token=TOKEN)


@pytest.fixture
def wrapped(provider: Any) -> str:
    return wrapped_key("k1", provider=provider)


@pytest.fixture
def site(make_site: Callable[..., Site], provider: Any, wrapped: str, service: KeyService) -> Site:
    """A site whose key is wrapped; making it has asked the service nothing."""
    service.asked.clear()
    site = make_site(key=wrapped, key_provider=provider)
    assert service.asked == []
    return site


def test_an_employer_is_connected_and_the_key_is_asked_for_once(
    fake: FakeFinch, site: Site, browser: Browser, service: KeyService
) -> None:
    for _ in range(3):
        callback = fake.allow(browser.location())
        assert browser.get(callback).status == 303

    [connection] = site.finch.connections.for_customer("acme")
    assert connection.access_token.reveal() in fake.ledger.tokens
    assert service.asked == ["decrypt"]


def test_nobody_is_sent_to_finch_while_the_service_is_away(
    site: Site, browser: Browser, service: KeyService
) -> None:
    service.away = True
    away = browser.begin()
    service.away = False

    back = browser.begin()

    assert (away.status, back.status) == (503, 303)
    assert [event.reason for event in site.named("finch.begin.failed")] == ["key_unavailable"]


@pytest.mark.parametrize("trouble", ["away", "short"])
def test_a_code_stays_unspent_until_the_key_is_at_hand(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    site: Site,
    browser: Browser,
    provider: Any,
    wrapped: str,
    service: KeyService,
    trouble: str,
) -> None:
    callback = fake.allow(browser.location())
    restarted = make_site(key=wrapped, key_provider=provider, redirect_uri=site.origin + CALLBACK)
    visitor = Browser(restarted, dict(browser.cookies))
    path = callback.removeprefix(site.origin)
    setattr(service, trouble, True)

    refused = visitor.get(path)

    setattr(service, trouble, False)
    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert fake.ledger.calls("token") == 0
    assert visitor.get(path).status == 303
    assert len(fake.ledger.tokens) == 1


def test_no_log_line_error_or_object_shows_the_key(
    make_site: Callable[..., Site],
    provider: Any,
    wrapped: str,
    service: KeyService,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    site = make_site(key=wrapped, key_provider=provider)
    site.finch.vault.prove()
    service.away = True
    other = make_site(key=wrapped, key_provider=provider)

    with pytest.raises(KeyUnavailable) as refused:
        other.finch.vault.prove()

    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    told = "".join(frames.format()) + log_text(caplog.records) + repr(vars(site.finch.vault))
    [key] = service.unwrapped
    assert refused.value.__context__ is None
    assert not [secret for secret in (key, TOKEN) if secret in told]


def test_a_key_that_was_never_wrapped_is_refused_beside_a_provider(
    make_site: Callable[..., Site], provider: Any
) -> None:
    with pytest.raises(ConfigurationError, match="wrapped_key"):
        make_site(key=new_key("k1"), key_provider=provider)


def test_an_object_that_cannot_unwrap_is_no_provider(
    make_site: Callable[..., Site], wrapped: str
) -> None:
    with pytest.raises(ConfigurationError, match="wrap and unwrap"):
        make_site(key=wrapped, key_provider=object())


def test_the_example_prints_a_key_that_works(
    fake: FakeFinch, make_site: Callable[..., Site], provider: Any, service: KeyService
) -> None:
    made = subprocess.run(
        [sys.executable, EXAMPLES / "kms.py", "k7"],
        env={**os.environ, "KMS_URL": service.url, "KMS_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )

    site = make_site(key=made.stdout.strip(), key_provider=provider)
    assert Browser(site).begin().status == 303
    assert site.finch.vault.key_id == "k7"
