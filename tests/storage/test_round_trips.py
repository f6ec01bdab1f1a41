"""How often a storage asks its server: counted at the driver, one command a round trip."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
import redis as redis_client
from sqlalchemy import create_engine

from finch_middleware.attempts import AttemptState
from finch_middleware.records import StoredToken
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of, sealed
from tests.storages import emptied

#: What sends one command and waits for its result.
SENDS: dict[str, tuple[Any, str]] = {
    "postgresql": (psycopg.Cursor, "execute"),
    "mysql": (pymysql.connections.Connection, "_execute_command"),
    "redis": (redis_client.connection.AbstractConnection, "send_packed_command"),
}

#: Of a token read, a check at begin, a claim, one that reads its customer's connections, an end
#: with a new token, one that renews it, and a hundred tokens replaced, which MySQL does one by one.
LIMITS = {
    ("postgresql", "url"): (1, 1, 1, 2, 2, 3, 4),
    ("postgresql", "engine"): (2, 2, 2, 4, 4, 5, 4),
    ("mysql", "url"): (1, 1, 1, 2, 5, 6, 104),
    ("redis", "url"): (1, 1, 1, 3, 2, 2, 2),
}


def counting(
    patch: pytest.MonkeyPatch, owner: type[Any], name: str
) -> Callable[[Callable[[], object]], int]:
    """A function that counts how often a call sends by the method *name* of *owner*."""
    sent: list[object] = []
    send = getattr(owner, name)

    def counted(self: object, *given: Any, **how: Any) -> Any:
        # An earlier test's thread may still ask.
        if threading.current_thread() is threading.main_thread():
            sent.append(given)
        return send(self, *given, **how)

    def trips(call: Callable[[], object]) -> int:
        sent.clear()
        call()
        return len(sent)

    patch.setattr(owner, name, counted)
    return trips


def end(storage: Storage, code: str, second: int, name: str = "connection") -> None:
    at = NOON.replace(second=second)
    ended = an_attempt(code, attempt_id=code).settled(AttemptState.STORED, at=at)
    storage.settle(ended, a_connection(name, obtained_at=at, attempt_id=code))


@pytest.mark.parametrize(("kind", "way"), LIMITS)
def test_a_storage_asks_its_server_no_more_often(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    way: str,
) -> None:
    url = emptied(request.getfixturevalue(kind).url)
    engine = create_engine(url) if way == "engine" else None
    storage: Any = open_storage(url) if engine is None else SQLAlchemyStorage(engine)

    changes = [(StoredToken.of(a_connection(f"{i}")), sealed("new")) for i in range(101)]
    storage.check()
    for i in range(101):
        end(storage, f"{i}", 0, name=f"{i}")
    # The first use of a script loads it into the server.
    assert storage.swap_tokens(changes[:1]) == [True]
    storage.claim(an_attempt("before"))
    storage.claim(an_attempt("second", attempt_id="second"))
    swapped: list[bool] = []
    with monkeypatch.context() as patch:
        trips = counting(patch, *SENDS[kind])
        counts = (
            trips(lambda: storage.get("connection")),
            trips(storage.check),
            trips(lambda: storage.claim(an_attempt("first", attempt_id="first"))),
            trips(lambda: storage.claim_and_read(an_attempt("third", attempt_id="third"))),
            trips(lambda: end(storage, "first", 1)),
            trips(lambda: end(storage, "second", 2)),
            trips(lambda: swapped.extend(storage.swap_tokens(changes[1:]))),
        )

    assert storage.get("connection").attempt_id == "second"
    assert swapped == [True] * 100
    storage.close()
    if engine is not None:
        engine.dispose()
    assert all(count <= most for count, most in zip(counts, LIMITS[kind, way], strict=True)), counts


@pytest.mark.parametrize("prevented", ["the driver", "the session's encoding", "a later encoding"])
def test_what_cannot_be_sent_at_once_is_sent_in_turn(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, prevented: str
) -> None:
    storage = SQLAlchemyStorage(postgresql_url)
    dialect: Any = storage._database.dialect
    # As behind a proxy.
    monkeypatch.setattr(dialect, "opened", lambda _: None)
    storage.check()
    if prevented == "the driver":
        monkeypatch.setattr(dialect, "_driver", "pg8000")
    else:
        speaks = iter([prevented == "a later encoding", False] * 2)
        monkeypatch.setattr(dialect, "_speaks_utf8", lambda _: next(speaks))
    ended = an_attempt().settled(AttemptState.STORED, at=NOON)

    storage.check()
    won = storage.claim(an_attempt())
    storage.settle(ended, a_connection())

    assert won is None
    assert storage.attempt(key_of("code")) == ended
    storage.close()
