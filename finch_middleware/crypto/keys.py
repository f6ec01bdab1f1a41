"""Keys as an application configures them: plain, or wrapped by a key service."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Protocol

from finch_middleware.secret import Secret

KEY_BYTES = 32


class KeyProvider(Protocol):
    """
    A key service that wraps the vault's keys, so that no plain key is stored anywhere.

    `key` and `accepted_keys` then hold wrapped keys, made by `wrapped_key`. Each is unwrapped
    once in a process, when it is first needed and before a code is spent; one that failed, again
    after five seconds. Called from many threads, and without a limit of our own: an
    implementation bounds its time, to a second or two. Whatever it raises becomes
    `KeyUnavailable`, and nothing is spent.
    """

    def wrap(self, key: bytes) -> bytes:
        """*key* as only this provider can read it. Called by an operator, never by a callback."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The 32 bytes that `wrap` was given. Raises what it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the vault: its public id, and in base64 its 32 random bytes, or those wrapped."""

    key_id: str
    material: Secret


def new_key(key_id: str | None = None) -> str:
    """
    A fresh key as the option `key` takes it, from the system's random source.

    The id is random too by default: two keys with one id cannot be used side by side.
    """
    return _in_text(key_id, os.urandom(KEY_BYTES))


def wrapped_key(key_id: str | None = None, *, provider: KeyProvider) -> str:
    """A fresh key as the option `key` takes it beside *provider*, which alone can unwrap it."""
    return _in_text(key_id, provider.wrap(os.urandom(KEY_BYTES)))


def _in_text(key_id: str | None, material: bytes) -> str:
    key_id = f"k{os.urandom(4).hex()}" if key_id is None else key_id
    return f"{key_id}:{base64.b64encode(material).decode()}"
