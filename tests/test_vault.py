from __future__ import annotations

import base64
import importlib.abc
import os
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import example, given, strategies as st

from finch_middleware.crypto import vault as vault_module
from finch_middleware.crypto.keys import Key
from finch_middleware.crypto.vault import KeyedHash, Vault, pack
from finch_middleware.errors import CannotOpen, KeyUnavailable
from finch_middleware.records import SealedToken
from finch_middleware.secret import Secret
from tests.keys import a_key

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
PLAIN = "the-token-itself"


K0, K1 = a_key("k0"), a_key("k1")
VAULT = Vault(client_id="client", key=K1, accepted_keys=[K0])


def payload_of(sealed: str) -> bytes:
    encoded = sealed.rpartition(".")[2]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def with_payload(payload: bytes, key_id: str = "k1") -> str:
    return f"fm1.{key_id}." + base64.urlsafe_b64encode(payload).rstrip(b"=").decode()


def refused(sealed: str, *, vault: Vault = VAULT, purpose: str = "ticket", **place: Any) -> bool:
    """Whether it does not open; any error but CannotOpen passes through and fails the test."""
    try:
        vault.open(sealed, purpose=purpose, **place)
    except CannotOpen:
        return True
    return False


@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=3))
@example("", [])
@example("half a pair: \ud800", ["\udfff"])
def test_what_is_sealed_opens_as_it_was(text: str, context: Sequence[str]) -> None:
    sealed = VAULT.seal(text, purpose="connection", context=pack(*context))

    opened = VAULT.open(sealed, purpose="connection", context=pack(*context))

    assert opened == text


def test_a_sealed_text_is_plain_ascii_names_its_key_and_hides_the_text() -> None:
    sealed = VAULT.seal(PLAIN, purpose="ticket")

    form, key_id, encoded = sealed.split(".")
    assert (form, key_id) == ("fm1", "k1")
    assert set(encoded) <= set(ALPHABET)
    assert PLAIN.encode() not in payload_of(sealed)


def test_a_sealed_text_may_end_in_any_letter_and_opens() -> None:
    # As many bytes as fill their base64: its last letter is as random as the first.
    sealed = [VAULT.seal("xy", purpose="ticket") for _ in range(3000)]

    assert {each[-1] for each in sealed} == set(ALPHABET)
    assert not any(refused(each) for each in sealed)


def test_the_same_text_never_seals_to_the_same_twice() -> None:
    sealed = {payload_of(VAULT.seal(PLAIN, purpose="ticket"))[:12] for _ in range(1000)}

    assert len(sealed) == 1000


def test_every_flipped_bit_is_refused() -> None:
    payload = payload_of(VAULT.seal(PLAIN, purpose="ticket"))

    for bit in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(with_payload(bytes(flipped)))


def test_every_truncation_of_the_text_and_of_the_payload_is_refused() -> None:
    sealed = VAULT.seal(PLAIN, purpose="ticket")
    payload = payload_of(sealed)

    assert all(refused(sealed[:length]) for length in range(len(sealed)))
    assert all(refused(with_payload(payload[:length])) for length in range(len(payload)))
    assert all(refused(with_payload(payload[start:])) for start in range(1, len(payload)))


def test_every_extension_is_refused() -> None:
    sealed = VAULT.seal(PLAIN, purpose="ticket")
    payload = payload_of(sealed)

    assert all(
        refused(sealed + tail) for tail in [*ALPHABET, "=", "==", ".", "\n", " ", "é", "\x00"]
    )
    assert all(refused(head + sealed) for head in [*ALPHABET, ".", "\n", " ", "é"])
    assert all(refused(with_payload(payload + bytes([byte]))) for byte in range(256))


@pytest.mark.parametrize("length", range(16, 34))
def test_another_spelling_of_the_same_bytes_is_refused(length: int) -> None:
    sealed = VAULT.seal("x" * length, purpose="ticket")
    head, encoded = sealed[:-1], sealed.rpartition(".")[2]
    # The last character has spare bits wherever the payload is no multiple of three bytes.
    spellings = {head + last for last in ALPHABET if payload_of(head + last) == payload_of(sealed)}
    spellings |= {sealed + "=" * (-len(encoded) % 4), sealed + "="}
    spellings |= {sealed.replace("-", "+").replace("_", "/")}
    spellings |= {sealed[:20] + white + sealed[20:] for white in " \n\r\t"}
    spellings -= {sealed}

    assert not refused(sealed)
    assert all(refused(each) for each in spellings)


def test_a_sealed_text_is_bound_to_its_purpose_and_place() -> None:
    sealed = VAULT.seal(PLAIN, purpose="connection", context=pack("ab", "c"))
    places: list[tuple[str, Sequence[str]]] = [
        ("quarantine", ("ab", "c")),
        ("ticket", ("ab", "c")),
        ("connection", ("a", "bc")),
        ("connection", ("c", "ab")),
        ("connection", ("abc",)),
        ("connection", ("ab", "c", "")),
        ("connection", ("", "ab", "c")),
        ("connection", ("ab",)),
        ("connection", ()),
        ("unknown", ("ab", "c")),
    ]

    assert not refused(sealed, purpose="connection", context=pack("ab", "c"))
    for purpose, context in places:
        assert refused(sealed, purpose=purpose, context=pack(*context))


def test_a_sealed_text_is_bound_to_its_client_id() -> None:
    other = Vault(client_id="other", key=K1, accepted_keys=[K0])

    assert refused(VAULT.seal(PLAIN, purpose="ticket"), vault=other)


def test_a_changed_key_id_is_refused_even_for_the_same_key() -> None:
    twin = Key(key_id="k2", material=K1.material)
    vault = Vault(client_id="client", key=K1, accepted_keys=[K0, twin])
    payload = payload_of(vault.seal(PLAIN, purpose="ticket"))

    assert not refused(with_payload(payload, "k1"), vault=vault)
    assert all(refused(with_payload(payload, each), vault=vault) for each in ("k0", "k2", "k9", ""))


@given(st.text())
@example("fm1")
@example("fm1.k1.")
@example("fm1.k1." + "A" * 16)
@example("fm1.k1." + "A" * 32)
@example("fm1.k1." + "A" * 37)
@example("fm1.k1.k1.AAAA")
@example("fm2.k1." + "A" * 64)
@example("fm1.k1.\ud800")
def test_nothing_that_was_not_sealed_here_opens(text: str) -> None:
    assert refused(text)
    assert refused("fm1.k1." + text)


@pytest.mark.parametrize(
    ("sealed", "key_id"),
    [
        ("fm1.k9." + "A" * 64, "k9"),
        ("fm1.k1." + "A" * 64, "k1"),
        ("fm1.k1.A", None),
        ("fm1.k1." + "A" * 65 + "B", None),
        ("fm1.k1.x." + "A" * 64, None),
        ("fm1.é." + "A" * 64, None),
        ("rubbish", None),
        ("", None),
    ],
)
def test_a_refusal_names_the_key_where_it_can_be_read(sealed: str, key_id: str | None) -> None:
    with pytest.raises(CannotOpen) as refusal:
        VAULT.open(sealed, purpose="ticket")

    assert refusal.value.key_id == key_id
    assert refusal.value.__context__ is None
    assert refusal.value.__cause__ is None


def test_an_accepted_key_opens_and_never_seals() -> None:
    before = Vault(client_id="client", key=K0).seal(PLAIN, purpose="ticket")

    sealed = {VAULT.seal(PLAIN, purpose="ticket").split(".")[1] for _ in range(20)}

    assert VAULT.open(before, purpose="ticket") == PLAIN
    assert sealed == {"k1"}


def test_a_key_that_is_not_accepted_any_more_opens_nothing() -> None:
    before = Vault(client_id="client", key=K0).seal(PLAIN, purpose="ticket")

    assert refused(before, vault=Vault(client_id="client", key=K1))


def test_it_knows_its_present_key_and_the_accepted_ones() -> None:
    assert VAULT.knows("k1")
    assert VAULT.knows("k0")
    assert not VAULT.knows("k9")
    assert not VAULT.knows("")


def test_each_purpose_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # With one nonce for all, one key would give one key stream, whatever the purpose.
    monkeypatch.setattr(os, "urandom", lambda size: b"\x07" * size)

    streams = {payload_of(VAULT.seal(PLAIN, purpose=p))[:-16] for p in ("ticket", "connection")}

    assert len(streams) == 2


class _BrokenCipher:
    """A cipher that does not decrypt to what was encrypted."""

    def __init__(self, material: bytes) -> None:
        pass

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return data

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return b"something else"


class _RefusingCipher(_BrokenCipher):
    """A cipher that does not decrypt its own output."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        raise InvalidTag


def test_a_key_is_proved_once_when_it_is_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(client_id="client", key=K1)
    monkeypatch.setattr("finch_middleware.crypto.vault.AESGCM", _RefusingCipher)

    vault.prove()


@pytest.mark.parametrize("cipher", [_BrokenCipher, _RefusingCipher])
def test_a_key_that_does_not_open_what_it_seals_is_unavailable(
    cipher: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.crypto.vault.AESGCM", cipher)

    with pytest.raises(KeyUnavailable) as refusal:
        Vault(client_id="client", key=K1)
    assert refusal.value.key_id == "k1"


def test_a_sealed_answer_knows_its_key() -> None:
    token = VAULT.seal_grant(Secret(PLAIN), connection_id="c", customer_id="acme")

    assert token.key_id == "k1"
    assert SealedToken(text="rubbish").key_id == ""


@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, max_size=4))
@example(["ab", "c"], ["a", "bc"])
@example([""], [])
def test_no_two_lists_pack_to_the_same_bytes(one: list[str], other: list[str]) -> None:
    assert (pack(*one) == pack(*other)) is (one == other)


def a_hash(client_id: str = "client", secret: str = "s3cret") -> KeyedHash:
    return KeyedHash(client_id=client_id, client_secret=Secret(secret))


@given(ANY_TEXT)
def test_a_keyed_hash_is_32_bytes_and_the_same_in_every_instance(value: str) -> None:
    name = a_hash()("code", value)

    assert len(name) == 32
    assert name == a_hash()("code", value)


@pytest.mark.parametrize(
    "other",
    [
        lambda: a_hash()("flow", "c"),
        lambda: a_hash()("code", "d"),
        lambda: a_hash(client_id="other")("code", "c"),
        lambda: a_hash(secret="other")("code", "c"),
        lambda: a_hash(client_id="clientc")("code", ""),
        lambda: a_hash(client_id="lient")("codec", "c"),
    ],
    ids=["purpose", "value", "client", "secret", "moved from the value", "moved to the purpose"],
)
def test_another_purpose_value_client_or_secret_gives_another_name(
    other: Callable[[], bytes],
) -> None:
    assert a_hash()("code", "c") != other()


def test_a_keyed_hash_stays_as_it_is_over_versions_and_rotations() -> None:
    # Claims of an older version must be found again, whatever became of the vault's keys.
    expected = "5d9c84ba1191844f52e72a8c9693960d99ca7ef8527fff4b61a60bf48af7573c"

    assert a_hash()("code", "a-code").hex() == expected


class _Refusing(importlib.abc.MetaPathFinder):
    """Fails to load cryptography, as a second interpreter does."""

    def __init__(self, message: str) -> None:
        self.message = message

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "cryptography.exceptions":
            raise ImportError(self.message)


@pytest.mark.parametrize(
    ("message", "reported"),
    [
        (
            "PyO3 modules do not yet support subinterpreters",
            "start uWSGI with --single-interpreter",
        ),
        ("libssl.so.3: cannot open shared object file", "libssl.so.3"),
    ],
)
def test_cryptography_that_cannot_be_loaded_names_what_to_do(
    monkeypatch: pytest.MonkeyPatch, message: str, reported: str
) -> None:
    monkeypatch.delitem(sys.modules, "cryptography.exceptions")
    monkeypatch.setattr(sys, "meta_path", [_Refusing(message), *sys.meta_path])

    with pytest.raises(ImportError, match=re.escape(reported)):
        runpy.run_path(vault_module.__file__)
