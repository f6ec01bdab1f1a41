"""Keys that a key service wraps: unwrapped before a code is spent, and never shown."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from werkzeug.wrappers import Request, Response

from finch_middleware.crypto.keys import wrapped_key
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.running import EXAMPLES
from tests.serving import served
from tests.site import CALLBACK, Browser, MakeSite, Site

TOKEN = "the-token-of-the-key-service"
NONCE = b"\x00" * 12


class KeyService:
    """
    A transit engine with one key.

    Attributes:
        asked: The verbs of the requests, in order.
        unavailable: Whether it responds 503.
        short: Whether it unwraps only a part of a key.
        unwrapped: Every key that it gave out, in base64.
    """

    def __init__(self) -> None:
        self.cipher = AESGCM(os.urandom(32))
        self.asked: list[str] = []
        self.unwrapped: list[str] = []
        self.unavailable = self.short = False
        self.url = ""

    def respond(self, request: Request) -> Response:
        verb = request.path.split("/")[3]
        self.asked.append(verb)
        if request.headers["X-Vault-Token"] != TOKEN or self.unavailable:
            return Response("{}", 503)
        data = getattr(self, verb)(request.get_json())
        return Response(json.dumps({"data": data}), mimetype="application/json")

    def encrypt(self, fields: dict[str, str]) -> dict[str, str]:
        sealed = self.cipher.encrypt(NONCE, fields["plaintext"].encode(), b"")
        return {"ciphertext": "vault:v1:" + base64.b64encode(sealed).decode()}

    def decrypt(self, fields: dict[str, str]) -> dict[str, str]:
        sealed = base64.b64decode(fields["ciphertext"].rpartition(":")[2])
        plain = self.cipher.decrypt(NONCE, sealed, b"").decode()
        self.unwrapped.append(plain)
        return {"plaintext": plain[:16] if self.short else plain}


@pytest.fixture
def service() -> Iterator[KeyService]:
    service = KeyService()
    with served(Request.application(service.respond)) as service.url:
        yield service


@pytest.fixture
def provider(service: KeyService, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Without a pause, so that the test need not wait after a failure.
    monkeypatch.setattr("finch_middleware.crypto.vault._REFUSAL_SECONDS", 0.0)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from kms import TransitKeys

    monkeypatch.setattr(TransitKeys, "timeout_seconds", 60)
    return TransitKeys(service.url, token=TOKEN)


@pytest.fixture
def wrapped(provider: Any) -> str:
    return wrapped_key("k1", provider=provider)


@pytest.fixture
def site(make_site: MakeSite, provider: Any, wrapped: str, service: KeyService) -> Site:
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


@pytest.mark.parametrize("trouble", ["unavailable", "short"])
def test_a_code_stays_unspent_until_the_key_is_unwrapped(
    fake: FakeFinch,
    make_site: MakeSite,
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


def test_the_example_prints_a_key_that_works(
    fake: FakeFinch, make_site: MakeSite, provider: Any, service: KeyService
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
