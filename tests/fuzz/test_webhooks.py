"""T48: hostile deliveries by the thousand: none is stored, handed over or an error."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from finch_middleware import FinchMiddleware
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.delivering import RECEIVING, delivery
from tests.faulty_storage import FaultyStorage
from tests.fuzz.seeds import seeded
from tests.threats.desk import component
from tests.threats.sizes import DELIVERIES
from tests.threats.wsgi import call

Environ = dict[str, Any]
Change = Callable[[random.Random, Environ], None]

NAMES = ["HTTP_FINCH_EVENT_ID", "HTTP_FINCH_TIMESTAMP", "HTTP_FINCH_SIGNATURE"]
_OTHER = base64.b64encode(b"another secret").decode()
_JUNK = [
    "", " ", ",", "v1", "v1,", "v1,a", "v1,=", "v2,x", "v1 v1", "\x00", "\xff", "v1,\xe9", "-1",
    "1e9", "0x10", "nan", "9" * 400, "msg_", "msg_" + "z" * 27, "a.b", "null", "\r\nx: y", "%00",
]  # fmt: skip


def _replace(draw: random.Random, environ: Environ) -> None:
    environ[draw.choice(NAMES)] = draw.choice(_JUNK)


def _drop(draw: random.Random, environ: Environ) -> None:
    environ.pop(draw.choice(NAMES), None)


def _alter(draw: random.Random, environ: Environ) -> None:
    """One character of a header that is signed, or of the signature itself."""
    name = draw.choice(NAMES)
    text = environ.get(name) or "x"
    place = draw.randrange(len(text))
    other = chr((ord(text[place]) + draw.randrange(1, 255)) % 256)
    environ[name] = text[:place] + other + text[place + 1 :]


def _move(draw: random.Random, environ: Environ) -> None:
    """To another time: either too far away, or not the one that was signed."""
    now = int(datetime.now(UTC).timestamp())
    environ[NAMES[1]] = str(now + draw.choice([-1, 1]) * draw.choice([30, 299, 302, 10**6]))


def _forge(draw: random.Random, environ: Environ) -> None:
    """The same, signed with a secret that is not ours."""
    environ.update(delivery(secret=_OTHER))


def _change_body(draw: random.Random, environ: Environ) -> None:
    body = bytearray(environ["wsgi.input"].getvalue() or b"x")
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    environ["wsgi.input"] = io.BytesIO(bytes(body))


def _misdeclare(draw: random.Random, environ: Environ) -> None:
    right = int(environ.get("CONTENT_LENGTH") or 1) if _is_number(environ) else 1
    environ["CONTENT_LENGTH"] = draw.choice(
        ["", "x", "-1", "1048577", "9" * 50, str(right - 1), str(right + 1)]
    )


def _change_version(draw: random.Random, environ: Environ) -> None:
    environ[NAMES[2]] = str(environ.get(NAMES[2], "")).replace("v1,", draw.choice(["v2,", "V1,"]))


def _is_number(environ: Environ) -> bool:
    declared = str(environ.get("CONTENT_LENGTH"))
    return declared.isascii() and declared.isdecimal() and len(declared) < 9


BREAKING: list[Change] = [
    _replace, _drop, _alter, _move, _forge, _change_body, _misdeclare, _change_version
]  # fmt: skip


def _hostile(draw: random.Random, good: Environ) -> Environ:
    environ = {**good, "wsgi.input": io.BytesIO(good["wsgi.input"].getvalue())}
    signed = [environ[name] for name in NAMES], environ["wsgi.input"].getvalue()
    for change in draw.choices(BREAKING, k=draw.randrange(1, 4)):
        change(draw, environ)
    same = [environ.get(name) for name in NAMES], environ["wsgi.input"].getvalue()
    if same == signed and environ["CONTENT_LENGTH"] == str(len(signed[1])):
        _forge(draw, environ)  # the changes have cancelled each other
    if draw.random() < 0.5:  # entries that are no more valid
        environ[NAMES[2]] = f"{draw.choice(_JUNK)} {environ.get(NAMES[2], '')},{draw.choice(_JUNK)}"
    environ["REQUEST_METHOD"] = draw.choices(["POST", "GET", "PUT"], weights=[20, 1, 1])[0]
    return environ


def test_t48_no_hostile_delivery_is_stored_handed_over_or_an_error(fake: FakeFinch) -> None:
    handed_over: list[object] = []
    storage = FaultyStorage(MemoryStorage())
    options = {**RECEIVING, "storage": storage, "spool": None, "on_webhook": handed_over.append}
    finch = component(fake, **options)
    app = FinchMiddleware(lambda environ, start: [], finch)
    draw = seeded()
    seen: set[int] = set()

    good = delivery()

    for number in range(DELIVERIES()):
        if number % 1_000 == 0:  # the others are of now as well
            good = delivery()
        answer = call(app, _hostile(draw, good))
        assert answer.body == b""
        seen.add(answer.status)

    assert (handed_over, storage.calls) == ([], [])
    assert seen == {400, 401, 405, 411, 413}
    # The control: what the changes begin with is accepted.
    assert call(app, delivery()).status == 200
    assert len(handed_over) == 1
    assert storage.calls
