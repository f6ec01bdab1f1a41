from __future__ import annotations

import copy
import dataclasses
import hmac
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from finch_middleware.secret import Secret

CANARY = "canary-4f1c"
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@dataclasses.dataclass(frozen=True)
class Holder:
    secret: Secret


SHOWN: dict[str, Callable[[Secret], object]] = {
    "repr": repr,
    "str": str,
    "format": lambda secret: f"{secret}",
    "format with a width": lambda secret: f"{secret:>40}",
    "format with !r": lambda secret: f"{secret!r}",
    "format with !a": lambda secret: f"{secret!a}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the very subject
    "a list of it": lambda secret: repr([secret]),
    "a dict of it": lambda secret: repr({"a": secret}),
    "a dataclass with it": lambda secret: repr(Holder(secret)),
    "asdict": lambda secret: repr(dataclasses.asdict(Holder(secret))),
    "dir": dir,
    "json with default=str": lambda secret: json.dumps(secret, default=str),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_no_way_of_showing_it_shows_the_text(show: Callable[[Secret], object]) -> None:
    assert CANARY not in str(show(Secret(CANARY)))


def test_reveal_is_the_text() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_it_has_no_vars() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


def test_a_copy_is_the_same_object() -> None:
    secret = Secret(CANARY)

    copies = copy.copy(secret), copy.deepcopy(secret), copy.deepcopy([secret])[0]

    assert all(each is secret for each in copies)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_to_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError) as refusal:
        pickle.dumps([Secret(CANARY)], protocol)

    assert CANARY not in str(refusal.value)


def test_json_refuses_it_without_its_text() -> None:
    with pytest.raises(TypeError) as refusal:
        json.dumps({"a": Secret(CANARY)})

    assert CANARY not in str(refusal.value)


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fail(held: Any) -> None:
        raise RuntimeError(f"holding {held}")

    with pytest.raises(RuntimeError) as failure:
        fail({"token": Secret(CANARY)})
    # The frame of this test knows the canary by its global name alone.
    told = traceback.TracebackException.from_exception(failure.value, capture_locals=True)

    text = "".join(told.format())
    assert "Secret('…')" in text
    assert CANARY not in text


def test_a_log_record_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("anything").warning("%s %r", Secret(CANARY), {"k": Secret(CANARY)})

    assert "Secret('…')" in caplog.text
    assert CANARY not in caplog.text


@given(ANY_TEXT, ANY_TEXT)
@example("half a pair: \ud800", "half a pair: ?")
def test_secrets_are_equal_exactly_where_their_texts_are(one: str, other: str) -> None:
    assert Secret(one) == Secret(one)
    assert (Secret(one) == Secret(other)) is (one == other)
    assert (Secret(one) != Secret(other)) is (one != other)


def test_secrets_meet_in_compare_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[bytes, bytes]] = []

    def observed(one: bytes, other: bytes) -> bool:
        met.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", observed)

    equal = Secret("a") == Secret("b")

    assert met == [(b"a", b"b")]
    assert equal is False


@pytest.mark.parametrize("other", [CANARY, None, b"canary-4f1c", 1], ids=repr)
def test_it_never_equals_anything_but_a_secret(other: object) -> None:
    assert (Secret(CANARY) == other) is False
    assert (other == Secret(CANARY)) is False


def test_it_cannot_be_hashed() -> None:
    with pytest.raises(TypeError):
        hash(Secret(CANARY))


def test_an_empty_one_is_false() -> None:
    assert not Secret("")
    assert Secret("x")
