"""
Seals and opens: AES-256-GCM, with the key that seals and those that only open.

A sealed text reads ``fm1.<key id>.<base64url of nonce and ciphertext>``. Its associated data
binds the format, the key id, the purpose, the client_id and the caller's context, so that a
value moved elsewhere does not open. Every purpose has a key of its own (HKDF-SHA256, RFC 5869);
nonces are 96 random bits (NIST SP 800-38D, 8.2.2: at most 2**32 values under one key).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Sequence
from datetime import datetime

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    if "interpreter" not in str(error):
        raise
    raise ImportError(
        "cryptography loads in one interpreter of a process only: start uWSGI with "
        "--single-interpreter, and set WSGIApplicationGroup %{GLOBAL} for mod_wsgi"
    ) from error

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.keys import KEY_BYTES, Key, KeyProvider
from finch_middleware.errors import CannotOpen, KeyUnavailable
from finch_middleware.records import (
    Entity,
    Grant,
    SealedToken,
    StoredConnection,
    StoredToken,
    history_line,
)
from finch_middleware.secret import Secret

FORMAT = "fm1"
_NONCE_BYTES = 12
# As long as a page asks the person to wait before a reload.
_REFUSAL_SECONDS = 5.0
_PURPOSES = ("connection", "quarantine", "ticket", "invitation", "canary")
# Base64's two alphabets (RFC 4648, sections 4 and 5).
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")
# An encoding error would carry the text, and could come after a token was minted.
_ANY_TEXT = "surrogatepass"

#: By purpose: the cipher, and how the associated data begins.
_Ciphers = dict[str, tuple[AESGCM, bytes]]
#: What has a sealed grant: a row, or an attempt in quarantine.
Holder = StoredConnection | StoredToken | Attempt


def pack(*parts: str) -> bytes:
    """*parts* in one, each behind its length: no two lists of parts give the same bytes."""
    packed = b""
    for part in parts:
        encoded = part.encode("utf-8", _ANY_TEXT)
        packed += len(encoded).to_bytes(4, "big") + encoded
    return packed


class Vault:
    """
    The keys of one client_id, in memory.

    Thread-safe; holds no descriptor and no state that a fork could share by mistake.
    `KeyProvider` states when each key is unwrapped.

    Attributes:
        key_id: The key that seals.
    """

    def __init__(
        self,
        *,
        client_id: str,
        key: Key,
        accepted_keys: Sequence[Key] = (),
        key_provider: KeyProvider | None = None,
    ) -> None:
        self._client_id = client_id
        self.key_id = key.key_id
        self._provider = key_provider
        self._keys = {each.key_id: each for each in (key, *accepted_keys)}
        self._ciphers: dict[str, _Ciphers] = {}
        self._refusals: dict[str, tuple[float, str]] = {}
        if key_provider is None:
            for key_id in self._keys:
                self._ciphers_of(key_id)

    def seal(self, text: str, *, purpose: str, context: bytes = b"") -> str:
        """
        *text*, sealed for one purpose and place; *context*: what `pack` makes of the place.

        Raises:
            KeyUnavailable: The provider does not unwrap the key, and never did.
        """
        cipher, bound = self._ciphers_of(self.key_id)[purpose]
        nonce, plain = os.urandom(_NONCE_BYTES), text.encode(errors=_ANY_TEXT)
        sealed = nonce + cipher.encrypt(nonce, plain, bound + context)
        return f"{FORMAT}.{self.key_id}.{_encoded(sealed).decode()}"

    def open(self, sealed: str, *, purpose: str, context: bytes = b"") -> str:
        """
        What was sealed for exactly this purpose and context.

        Raises:
            CannotOpen: Altered, cut, moved, or sealed with a key that is not one of ours.
            KeyUnavailable: The provider does not unwrap that key now.
        """
        key_id, payload = _parts(sealed)
        found = self._ciphers_of(key_id).get(purpose) if key_id in self._keys else None
        if found is None or len(payload) < _NONCE_BYTES:
            raise CannotOpen(key_id=key_id or None)
        cipher, bound = found
        nonce, ciphertext = payload[:_NONCE_BYTES], payload[_NONCE_BYTES:]
        try:
            opened = cipher.decrypt(nonce, ciphertext, bound + context)
        except InvalidTag:
            refusal = CannotOpen(key_id=key_id)
        else:
            return opened.decode(errors=_ANY_TEXT)
        raise refusal

    def reseal_grant(self, holder: Holder) -> SealedToken | None:
        """
        The grant of a row or an attempt, sealed with the current key; None if that key sealed it.

        Raises as `open`.
        """
        text, purpose, context = _place(holder)
        opened = self.open(text, purpose=purpose, context=context)
        if text.startswith(f"{FORMAT}.{self.key_id}."):
            return None
        return SealedToken(text=self.seal(opened, purpose=purpose, context=context))

    def seal_grant(self, answer: Secret, *, connection_id: str, customer_id: str) -> SealedToken:
        """Finch's answer, sealed for the row of that connection and customer."""
        context = pack(connection_id, customer_id)
        return SealedToken(text=self.seal(answer.reveal(), purpose="connection", context=context))

    def seal_quarantined(self, answer: Secret, *, attempt_id: str) -> SealedToken:
        """Finch's answer, sealed for the attempt that keeps it in quarantine."""
        text = self.seal(answer.reveal(), purpose="quarantine", context=pack(attempt_id))
        return SealedToken(text=text)

    def seal_connection(self, grant: Grant, *, attempt: Attempt, at: datetime) -> StoredConnection:
        """
        The row of the connection that *attempt* obtained: its connection_id, its customer_id.

        *at*: when the token was received.
        """
        connection_id, customer_id = attempt.connection_id or "", attempt.customer_id or ""
        sealed = self.seal_grant(
            grant.document, connection_id=connection_id, customer_id=customer_id
        )
        return StoredConnection(
            connection_id=connection_id,
            customer_id=customer_id,
            client_id=attempt.client_id,
            provider_id=grant.provider_id,
            products=grant.products,
            client_type=grant.client_type,
            connection_type=grant.connection_type,
            entities=tuple(Entity(id=each) for each in grant.entity_ids),
            obtained_at=at,
            attempt_id=attempt.attempt_id,
            sealed=sealed,
            history=history_line(
                at,
                "connected",
                customer_id=customer_id,
                provider_id=grant.provider_id,
                products=grant.products,
                entity_ids=grant.entity_ids,
                attempt_id=attempt.attempt_id,
                reference=attempt.reference,
                key_id=sealed.key_id,
            ),
        )

    def open_grant(self, holder: Holder) -> Secret:
        """
        The grant of a row or an attempt, if it is still the one that it was sealed for.

        Raises as `open`.
        """
        text, purpose, context = _place(holder)
        return Secret(self.open(text, purpose=purpose, context=context))

    def knows(self, key_id: str) -> bool:
        """Whether that key is the present one or an accepted one."""
        return key_id in self._keys

    def prove(self) -> None:
        """
        Return when the current key is unlocked. Unlocking a key proves that it seals and opens.

        Raises:
            KeyUnavailable: It is not, and no code may be spent.
        """
        self._ciphers_of(self.key_id)

    def _ciphers_of(self, key_id: str) -> _Ciphers:
        """The ciphers of a key of ours. Raises KeyUnavailable from a frame that holds no key."""
        if key_id not in self._ciphers:
            # Anybody may send a cookie that names a key of ours: the provider is not called for
            # each. Two threads may both call it: a lock would cost more than a second call.
            until, reason = self._refusals.get(key_id, (0.0, ""))
            if time.monotonic() >= until:
                reason = self._try_unlock(key_id)
            if reason:
                raise KeyUnavailable(key_id=key_id, reason=reason)
        return self._ciphers[key_id]

    def _try_unlock(self, key_id: str) -> str:
        """Why the key cannot be unlocked; empty once its ciphers are made. Raises nothing."""
        given = base64.b64decode(self._keys[key_id].material.reveal())
        reason = "not a key"
        try:
            material = given if self._provider is None else self._provider.unwrap(given)
            if ciphers := _ciphers(material):
                self._ciphers[key_id] = {
                    purpose: (cipher, pack(FORMAT, key_id, purpose, self._client_id))
                    for purpose, cipher in ciphers.items()
                }
                return ""
        except Exception as error:  # whatever the client of a key service raises
            # Its name alone: such an error may hold the key, or our credentials.
            reason = type(error).__name__
        self._refusals[key_id] = (time.monotonic() + _REFUSAL_SECONDS, reason)
        return reason


class KeyedHash:
    """
    HMAC-SHA256 under a key derived from the client secret: one-way names for codes and flows.

    They are the same in every worker and survive a rotation of the vault's keys.
    """

    def __init__(self, *, client_id: str, client_secret: Secret) -> None:
        self._client_id = client_id
        self._key = _derive(client_secret.reveal().encode(), "finch_middleware/hash")

    def __call__(self, purpose: str, value: str) -> bytes:
        """32 bytes that name *value* for this purpose and client_id, and tell nothing of it."""
        return hmac.digest(self._key, pack(purpose, self._client_id, value), hashlib.sha256)


def _place(holder: Holder) -> tuple[str, str, bytes]:
    """The sealed grant of *holder*, its purpose and its context."""
    if isinstance(holder, Attempt):
        return holder.sealed.text if holder.sealed else "", "quarantine", pack(holder.attempt_id)
    return holder.sealed.text, "connection", pack(holder.connection_id, holder.customer_id)


def _ciphers(material: object) -> dict[str, AESGCM]:
    """The ciphers by their purpose, proved to seal and open; none if that is not a key."""
    if not isinstance(material, bytes) or len(material) != KEY_BYTES:
        return {}
    ciphers = {
        purpose: AESGCM(_derive(material, f"finch_middleware/{FORMAT}/{purpose}"))
        for purpose in _PURPOSES
    }
    nonce, canary = os.urandom(_NONCE_BYTES), ciphers["canary"]
    opened = canary.decrypt(nonce, canary.encrypt(nonce, b"canary", None), None)
    return ciphers if opened == b"canary" else {}


def _derive(material: bytes, info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(material)


def _parts(sealed: str) -> tuple[str, bytes]:
    """Key id and payload; an empty id where the text is not one of ours to the last bit."""
    form, _, rest = sealed.partition(".")
    key_id, _, encoded = rest.partition(".")
    if form != FORMAT or not sealed.isascii():
        return "", b""
    ours = encoded.encode()
    try:
        payload = binascii.a2b_base64(ours.translate(_STANDARD) + b"=" * (-len(ours) % 4))
    except ValueError:
        return "", b""
    # Base64 has spare bits at the end, and that reader skips what is none: only the spelling that
    # we write is ours.
    return (key_id, payload) if _encoded(payload) == ours else ("", b"")


def _encoded(payload: bytes) -> bytes:
    standard = binascii.b2a_base64(payload, newline=False)
    return standard.rstrip(b"=").translate(_URLSAFE)
