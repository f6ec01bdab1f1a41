"""
A KeyProvider for a key service: HashiCorp Vault's transit engine, over its HTTP API.

The application gets the wrapped key as FINCH_KEY and this object as `key_provider`; the key as
it is stands nowhere but in the memory of its processes. For AWS KMS the two methods are
``client.encrypt(KeyId=…, Plaintext=key)["CiphertextBlob"]`` and
``client.decrypt(KeyId=…, CiphertextBlob=wrapped)["Plaintext"]``, with the timeouts in the
client's ``Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})``.

    KMS_URL=https://vault.internal:8200 KMS_TOKEN=… python examples/kms.py k1

prints a fresh wrapped key, once.
"""

from __future__ import annotations

import base64
import os
import sys

import requests

from finch_middleware.crypto.keys import wrapped_key


class TransitKeys:
    """
    Keys wrapped by the key called *name* of a transit engine, which never leaves it.

    Whoever may call its decrypt endpoint reads every token: give that right to the application
    alone, and the one to encrypt to whoever makes keys.
    """

    #: A callback waits for the answer, once in the life of a process.
    timeout_seconds = (1.0, 2.0)

    def __init__(self, url: str, *, token: str, name: str = "finch") -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._name = name

    def wrap(self, key: bytes) -> bytes:
        """*key*, as the transit engine's own text."""
        answer = self._asked("encrypt", plaintext=base64.b64encode(key).decode())
        return answer["ciphertext"].encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key that `wrap` was given."""
        return base64.b64decode(self._asked("decrypt", ciphertext=wrapped.decode())["plaintext"])

    def _asked(self, verb: str, **fields: str) -> dict[str, str]:
        answer = requests.post(
            f"{self._url}/v1/transit/{verb}/{self._name}",
            json=fields,
            headers={"X-Vault-Token": self._token},
            timeout=self.timeout_seconds,
            allow_redirects=False,
        )
        answer.raise_for_status()
        data: dict[str, str] = answer.json()["data"]
        return data


if __name__ == "__main__":
    provider = TransitKeys(os.environ["KMS_URL"], token=os.environ["KMS_TOKEN"])
    print(wrapped_key(sys.argv[1], provider=provider))
