"""The spellings in which a secret may hide in a text, a log, a page or a file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote

Spelled = tuple[str, bytes]


def spellings(secret: str) -> list[Spelled]:
    """Every spelling of *secret* that is searched for, by its name."""
    raw = secret.encode()
    half = len(raw) // 2
    return [
        ("raw", raw),
        ("base64", base64.b64encode(raw).rstrip(b"=")),
        ("base64url", base64.urlsafe_b64encode(raw).rstrip(b"=")),
        # The same inside a longer text, where it begins at another bit.
        ("base64, shifted by one", base64.b64encode(b"\0" + raw)[2:].rstrip(b"=")[:-2]),
        ("base64, shifted by two", base64.b64encode(b"\0\0" + raw)[3:].rstrip(b"=")[:-2]),
        ("hex", raw.hex().encode()),
        ("HEX", raw.hex().upper().encode()),
        ("quoted", quote(secret, safe="").encode()),
        ("json", json.dumps(secret)[1:-1].encode()),
        ("repr", repr(secret)[1:-1].encode()),
        ("reversed", raw[::-1]),
        ("UTF-16", secret.encode("utf-16-le")),
        ("first half", raw[:half]),
        ("second half", raw[half:]),
    ]


def hits(text: bytes, secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which secret stands in *text*, and in which spelling."""
    return [
        (name, spelling)
        for name, secret in secrets.items()
        for spelling, needle in spellings(secret)
        if needle in text
    ]
