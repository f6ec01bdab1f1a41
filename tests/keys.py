"""Settings, keys, vaults and a key service for tests."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any, cast

from finch_middleware.config.options import Options
from finch_middleware.config.reading import read_settings
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.keys import Key, new_key
from finch_middleware.crypto.vault import Vault
from finch_middleware.secret import Secret
from finch_middleware.tickets import Ticket, flow_id_of, new_state


def a_settings(**changes: Any) -> Settings:
    """The settings of complete options with these *changes*."""
    options = Options(
        client_id="client",
        client_secret="secret",
        redirect_uri="https://app.example.com/finch/callback",
        products=["company", "directory"],
        storage="memory://",
        key=new_key("k1"),
    )
    return read_settings(cast("Options", {**options, **changes}), checks={})


def a_key(key_id: str = "k1") -> Key:
    return Key(key_id=key_id, material=Secret(new_key(key_id).partition(":")[2]))


def a_vault(client_id: str = "client", key_id: str = "k1") -> Vault:
    return Vault(client_id=client_id, key=a_key(key_id))


def wrapped(key: Key) -> Key:
    """The same key as `Reversing` wraps it."""
    reversed_bytes = base64.b64decode(key.material.reveal())[::-1]
    return Key(key_id=key.key_id, material=Secret(base64.b64encode(reversed_bytes).decode()))


class Reversing:
    """
    A key provider that wraps a key by reversing its bytes.

    Attributes:
        answer: Returned instead of the key; an error is raised.
        only: The one key that it unwraps, if it does not unwrap all.
        asked: How often it unwrapped.
    """

    def __init__(self, answer: object = None, *, only: Key | None = None) -> None:
        self.answer = answer
        self.only = only
        self.asked = 0

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, wrapped: bytes) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        key = wrapped[::-1]
        if self.only is not None and base64.b64encode(key).decode() != self.only.material.reveal():
            raise PermissionError
        return key if self.answer is None else self.answer  # type: ignore[return-value]  # anything


_STATES: dict[str, Secret] = {}


def issue(*, at: datetime, life: timedelta, **given: Any) -> Ticket:
    """A ticket of a new flow, whose state `state_of` knows."""
    state = new_state()
    flow_id = flow_id_of(state.reveal())
    _STATES[flow_id] = state
    return Ticket(flow_id=flow_id, issued_at=at, expires_at=at + life, **given)


def state_of(ticket: Ticket) -> Secret:
    return _STATES[ticket.flow_id]
