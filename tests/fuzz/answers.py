"""A grammar of answers of a token endpoint, and an independent judge of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from random import Random
from typing import Any

_ODD: list[Any] = [
    None, True, False, 0, -1, 4711, 10**40, 1.5, -0.0, 1e308, "", " ", "null", "acme", "ACME", "é",
    "\x00", "a\r\nX: y", "\ud800", "\u2028", "\U0001f4a9", "x" * 255, "x" * 256, "x" * 4096,
    "x" * 4097, [], {}, ["acme"], {"a": "b"}, [[[[]]]], "<script>", "token with blanks",
]  # fmt: skip
_FIELDS = [
    "access_token", "token_type", "connection_id", "customer_id", "customer_name", "account_id",
    "company_id", "client_type", "connection_type", "products", "provider_id", "entity_ids",
]  # fmt: skip
_LITERALS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "01", "'a'", "tru", "\\u0041"]
_GARBAGE = [
    b"", b" ", b"null", b"true", b"42", b'"text"', b"[]", b"{}", b"[" * 60_000, b'{"a":' * 9_000,
    b"<!doctype html><title>Sign in</title>", b"OK", b"\xff\xfe{\x00}\x00", b"\x00",
    b"{"+b" " * 70_000, b'{"access_token": "a"} {"access_token": "b"}',
    b"access_token=a&token_type=bearer", b'\xef\xbb\xbf{"access_token": "a"}',
    b'{"access_token": "\xc3\x28"}', b'{"access_token": "a",}',
]  # fmt: skip

_DEPTH = 16
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,4096}")


def honest(customer_id: str, *, token: str, connection_id: str) -> dict[str, Any]:
    """An answer as Finch documents it."""
    return {
        "access_token": token,
        "token_type": "bearer",
        "connection_id": connection_id,
        "customer_id": customer_id,
        "customer_name": "Acme",
        "client_type": "production",
        "connection_type": "provider",
        "products": ["company", "directory"],
        "provider_id": "gusto",
        "entity_ids": ["e-1"],
    }


def hostile_body(draw: Random, answer: dict[str, Any]) -> bytes:
    """Something that a token endpoint, or whoever sits in its place, may answer with 200."""
    match draw.randrange(10):
        case 0:
            return draw.choice(_GARBAGE)
        case 1:
            return draw.randbytes(draw.randrange(300))
        case 2:
            return _doubled(draw, answer)
        case 3:
            return _nested(draw, answer)
        case 4:
            return _cut(draw, json.dumps(answer).encode())
        case 5:
            return _with_literal(draw, answer)
        case 6:
            return json.dumps({**answer, f"x{draw.random()}": draw.choice(_ODD)}).encode()
        case _:
            return _bent(draw, answer)


def _bent(draw: Random, answer: dict[str, Any]) -> bytes:
    bent = dict(answer)
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        name = draw.choice(_FIELDS)
        if draw.random() < 0.25:
            bent.pop(name, None)
        else:
            bent[name] = draw.choice(_ODD)
    members = list(bent.items())
    draw.shuffle(members)
    return json.dumps(dict(members), ensure_ascii=draw.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def _doubled(draw: Random, answer: dict[str, Any]) -> bytes:
    name = draw.choice(_FIELDS)
    return (json.dumps(answer)[:-1] + f', "{name}": "second"}}').encode()


def _nested(draw: Random, answer: dict[str, Any]) -> bytes:
    depth = draw.choice([1, 10, 15, 16, 17, 100, 5000])
    inside = "[" * depth + "]" * depth
    return (json.dumps(answer)[:-1] + f', "deep": {inside}}}').encode()


def _cut(draw: Random, body: bytes) -> bytes:
    at = draw.randrange(len(body))
    return draw.choice([body[:at], body[at:], body[:at] + draw.randbytes(1) + body[at:]])


def _with_literal(draw: Random, answer: dict[str, Any]) -> bytes:
    text = json.dumps({**answer, draw.choice([*_FIELDS, "new"]): "HERE"})
    return text.replace('"HERE"', draw.choice(_LITERALS)).encode()


def token_in(body: bytes) -> str | None:
    """The token that *body* brings, whatever else it says: what the standard library finds."""
    answer = _read(body)
    token = answer.get("access_token") if answer else None
    return token if isinstance(token, str) and _PRINTABLE.fullmatch(token) else None


def token_of(body: bytes, *, customer_id: str, connected: Collection[str]) -> str | None:
    """
    The token, if *body* may be stored for that customer, who has the connections *connected*.

    It says less than the reader under test: None means that storing it would be wrong.
    """
    answer = _read(body) or {}
    given = answer.get("customer_id")
    renewed = given in (None, "") and answer.get("connection_id") in connected
    named = isinstance(given, str | int) and not isinstance(given, bool)
    if not renewed and not (named and str(given) == customer_id):
        return None
    if not isinstance(answer.get("connection_id"), str) or not _documented(answer):
        return None
    return token_in(body)


def _read(body: bytes) -> dict[str, Any] | None:
    if body.count(b"[") > 1000:
        # So deep in the stack, a finalizer that the collector runs would fail.
        return None
    try:
        answer = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refused)
        usable = isinstance(answer, dict) and _finite(answer) and _depth(answer) <= _DEPTH
    except (ValueError, RecursionError):
        return None
    return answer if usable else None


def _documented(answer: dict[str, Any]) -> bool:
    """Whether every field that Finch documents for all tokens is of its type, or absent."""
    words = [answer.get(name) for name in ("provider_id", "client_type", "connection_type")]
    products = answer.get("products")
    kind = answer.get("token_type")
    return (
        all(word is None or isinstance(word, str) for word in words)
        and (products is None or isinstance(products, list))
        and (kind is None or (isinstance(kind, str) and kind.lower() in ("", "bearer")))
    )


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def _refused(literal: str) -> None:
    raise ValueError(literal)


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        value = list(value.values())
    return all(_finite(each) for each in value) if isinstance(value, list) else True
