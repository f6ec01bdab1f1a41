"""
A KeyProvider for a key service: HashiCorp Vault's transit engine, over its HTTP API.

The application gets the wrapped key as FINCH_KEY and this object as `key_provider`. The unwrapped
key exists only in the memory of its processes. For AWS KMS the two methods are
``client.encrypt(KeyId=…, Plaintext=key)["CiphertextBlob"]`` and
``client.decrypt(KeyId=…, CiphertextBlob=wrapped)["Plaintext"]``, with the timeouts in the
client's ``Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})``.

    KMS_URL=https://vault.internal:8200 KMS_TOKEN=… python examples/kms.py k1

prints a new wrapped key.
"""

from __future__ import annotations

import base64
import os
import sys

import requests

from finch_middleware.crypto.keys import wrapped_key


class TransitKeys:
    """
    Wraps keys with the key called *name* of a transit engine, which never leaves the engine.

    Anybody with access to its decrypt endpoint can read every token. Give that right only to the
    application, and the right to encrypt to the people who make keys.
    """

    #: To connect and to read. The first callback of each process waits for the response.
    timeout_seconds = (1.0, 2.0)

    def __init__(self, url: str, *, token: str, name: str = "finch") -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._name = name

    def wrap(self, key: bytes) -> bytes:
        """*key*, encrypted, in the text form of the transit engine."""
        data = self._ask("encrypt", plaintext=base64.b64encode(key).decode())
        return data["ciphertext"].encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key that `wrap` was given."""
        return base64.b64decode(self._ask("decrypt", ciphertext=wrapped.decode())["plaintext"])

    def _ask(self, verb: str, **fields: str) -> dict[str, str]:
        response = requests.post(
            f"{self._url}/v1/transit/{verb}/{self._name}",
            json=fields,
            headers={"X-Vault-Token": self._token},
            timeout=self.timeout_seconds,
            allow_redirects=False,
        )
        response.raise_for_status()
        data: dict[str, str] = response.json()["data"]
        return data


if __name__ == "__main__":
    provider = TransitKeys(os.environ["KMS_URL"], token=os.environ["KMS_TOKEN"])
    print(wrapped_key(sys.argv[1], provider=provider))
