"""The vault with a key provider: it unwraps each key once, and what it returns is checked."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest

from finch_middleware.crypto import vault as vault_module
from finch_middleware.crypto.keys import KEY_BYTES
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen, KeyUnavailable
from tests.keys import Reversing, a_key, wrapped
from tests.test_finch_secrets import shown_by

PLAIN = "the-token-itself"


K0, K1 = a_key("k0"), a_key("k1")


class Unhelpful(Reversing):
    """Gives nothing back."""

    def unwrap(self, wrapped: bytes) -> bytes:
        return None  # type: ignore[return-value]  # as a provider may


def refusal_of(vault: Vault) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as refusal:
        vault.prove()
    return refusal.value


def test_a_provider_unwraps_each_key_once_when_it_is_first_needed() -> None:
    plainly = Vault(client_id="client", key=K1)
    before = Vault(client_id="client", key=K0).seal(PLAIN, purpose="ticket")
    provider = Reversing()
    vault = Vault(
        client_id="client", key=wrapped(K1), accepted_keys=[wrapped(K0)], key_provider=provider
    )
    asked = [provider.asked]

    sealed = [vault.seal(PLAIN, purpose="ticket") for _ in range(2)]
    asked.append(provider.asked)
    opened = [vault.open(before, purpose="ticket") for _ in range(2)]
    asked.append(provider.asked)

    assert asked == [0, 1, 2]
    assert [plainly.open(each, purpose="ticket") for each in sealed] == [PLAIN, PLAIN]
    assert opened == [PLAIN, PLAIN]


def test_a_sealed_text_of_an_unknown_key_asks_no_provider() -> None:
    provider = Reversing()
    vault = Vault(client_id="client", key=wrapped(K1), key_provider=provider)

    with pytest.raises(CannotOpen):
        vault.open("fm1.k9." + "A" * 64, purpose="ticket")

    assert provider.asked == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PermissionError("canary"), "PermissionError"),
        (b"canary", "not a key"),
        (b"c" * (KEY_BYTES + 1), "not a key"),
        ("c" * KEY_BYTES, "not a key"),
    ],
    ids=["an error", "too short", "too long", "text"],
)
def test_a_provider_without_the_key_is_named_by_its_error_and_nothing_of_it_is_kept(
    answer: object, reason: str
) -> None:
    vault = Vault(client_id="client", key=wrapped(K1), key_provider=Reversing(answer))

    with pytest.raises(KeyUnavailable) as refusal:
        vault.seal(PLAIN, purpose="ticket")

    assert (refusal.value.key_id, refusal.value.reason) == ("k1", reason)
    assert refusal.value.__context__ is None
    assert refusal.value.__cause__ is None
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    "answer",
    [b"c4n4ry", b"c4n4ry" * 9, "c4n4ry", PermissionError("c4n4ry"), None],
    ids=["too short", "too long", "text", "an error", "nothing"],
)
def test_a_traceback_with_its_locals_shows_no_key_and_nothing_of_the_answer(answer: object) -> None:
    key = wrapped(K1)
    provider = Reversing(answer) if answer else Unhelpful()
    vault = Vault(client_id="client", key=key, key_provider=provider)

    with pytest.raises(KeyUnavailable) as refusal:
        vault.seal(PLAIN, purpose="ticket")

    shown = shown_by(refusal.value)
    material = base64.b64decode(key.material.reveal())
    assert "'key_id': 'k1'" in shown
    assert "c4n4ry" not in shown
    assert repr(material)[2:-1] not in shown
    assert repr(material[::-1])[2:-1] not in shown


def test_a_provider_that_failed_is_left_alone_for_a_while_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(vault_module, "time", SimpleNamespace(monotonic=lambda: now))
    provider = Reversing(TimeoutError())
    vault = Vault(client_id="client", key=wrapped(K1), key_provider=provider)

    first = refusal_of(vault)
    now = 4.9
    second, asked = refusal_of(vault), provider.asked
    now, provider.answer = 5.0, None
    vault.prove()

    assert (first.reason, second.reason) == ("TimeoutError", "TimeoutError")
    assert (asked, provider.asked) == (1, 2)


def test_one_key_that_fails_does_not_keep_another_from_being_unwrapped() -> None:
    provider = Reversing(only=K1)
    vault = Vault(
        client_id="client", key=wrapped(K1), accepted_keys=[wrapped(K0)], key_provider=provider
    )
    older = Vault(client_id="client", key=K0).seal(PLAIN, purpose="ticket")
    with pytest.raises(KeyUnavailable, match="k0"):
        vault.open(older, purpose="ticket")

    sealed = vault.seal(PLAIN, purpose="ticket")

    assert vault.open(sealed, purpose="ticket") == PLAIN
