"""Around the callback: requests that are forwarded, the import, tokens read, keys rotated."""

from __future__ import annotations

import itertools
import json
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, MetaData, Table, bindparam, create_engine, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, registry
from werkzeug.test import EnvironBuilder

from benchmarks import databases
from benchmarks.peers import Ours, engine_for
from benchmarks.ratios import Costs, Line, line, measured, seconds
from benchmarks.rotation import environ, fill, writing
from benchmarks.token_server import TokenServer
from finch_middleware import FinchMiddleware, new_key
from finch_middleware.records import SealedToken, StoredToken
from finch_middleware.storage.sql.storage import SQLAlchemyStorage

_NOWHERE = TokenServer(url="http://127.0.0.1:9")


def forwarding() -> list[Line]:
    """A request that is not ours, with nothing around the application but the middleware."""
    from whitenoise import WhiteNoise

    with tempfile.TemporaryDirectory() as folder:
        finch = Ours(_NOWHERE, f"sqlite:///{folder}/finch.db").finch
        environ = EnvironBuilder(path="/elsewhere").get_environ()
        ours, white = FinchMiddleware(_application, finch), WhiteNoise(_application)
        found = measured(
            {
                "ours": lambda: seconds(lambda: ours(environ, _ignore), times=20_000),
                "closure": lambda: seconds(lambda: _closed(environ, _ignore), times=20_000),
                "white": lambda: seconds(lambda: white(environ, _ignore), times=20_000),
            },
            rounds=15,
        )
    what = "forwarding a request"
    return [
        line(what, found["ours"], found["closure"], against="a closure of three lines"),
        line(what, found["ours"], found["white"], against="WhiteNoise"),
    ]


def _application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def _closed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/finch/callback":
        raise LookupError
    return _application(environ, start_response)


def _ignore(*_: Any) -> Any:
    """A start_response that keeps nothing."""


def importing() -> list[Line]:
    """What an application on Flask waits for more, beside what `requests` costs."""
    found = measured(
        {
            "ours": lambda: _import("from finch_middleware import FinchConnect, FinchMiddleware"),
            "requests": lambda: _import("import requests"),
        },
        rounds=9,
    )
    return [line("import after Flask", found["ours"], found["requests"], against="import requests")]


def _import(statement: str) -> float:
    code = (
        "import flask, time; began = time.perf_counter();"
        f"{statement}; print(time.perf_counter() - began)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return float(done.stdout)


def reading(kind: str, *, rows: int, times: int = 1_000) -> list[Line]:
    """One token, from a storage of *rows*: ours, the bare driver, and SQLAlchemy Core by hand."""
    with databases.named(kind) as url:
        finch = Ours(_NOWHERE, url).finch
        for start in range(0, rows, 5_000):
            fill(finch, url, numbers=range(start, min(start + 5_000, rows)))
        ids = iter(lambda: f"connection-{secrets.randbelow(rows)}", None)
        with _by_hand(url, rows) as (raw, core):
            found = measured(
                {
                    "ours": lambda: seconds(lambda: _revealed(finch, next(ids)), times=times),
                    "raw": lambda: seconds(lambda: raw(next(ids)), times=times),
                    "core": lambda: seconds(lambda: core(next(ids)), times=times),
                },
                rounds=9,
            )
    what = f"reading a token, {kind}, {rows:,} rows"
    return [
        line(what, found["ours"], found["raw"], against="the driver by hand"),
        line(what, found["ours"], found["core"], against="SQLAlchemy Core by hand"),
    ]


def _revealed(finch: Any, connection_id: str) -> None:
    found = finch.connections.get(
        connection_id, customer_id=connection_id.replace("connection", "customer")
    )
    assert found is not None
    assert found.access_token.reveal()


Read = Callable[[str], None]


@contextmanager
def _by_hand(url: str, rows: int) -> Iterator[tuple[Read, Read]]:
    """Two ways to read a table of as many sealed tokens: the driver's, and SQLAlchemy Core's."""
    cipher = AESGCM(secrets.token_bytes(32))
    engine = create_engine(url)
    with engine.begin() as database:
        database.execute(text("CREATE TABLE by_hand (id VARCHAR(64) PRIMARY KEY, sealed TEXT)"))
        values = []
        for number in range(rows):
            nonce = secrets.token_bytes(12)
            sealed = nonce + cipher.encrypt(nonce, b'{"access_token": "0000"}', None)
            values.append({"id": f"connection-{number}", "sealed": sealed.hex()})
        database.execute(text("INSERT INTO by_hand VALUES (:id, :sealed)"), values)

    def opened(sealed: str) -> None:
        data = bytes.fromhex(sealed)
        assert json.loads(cipher.decrypt(data[:12], data[12:], None))["access_token"]

    read = _sqlite_read(url) if url.startswith("sqlite") else _postgresql_read(url)

    def core(connection_id: str) -> None:
        with engine.connect() as database:
            query = text("SELECT sealed FROM by_hand WHERE id = :id")
            opened(database.execute(query, {"id": connection_id}).scalar_one())

    yield (lambda connection_id: opened(read(connection_id))), core
    engine.dispose()


def _sqlite_read(url: str) -> Callable[[str], str]:
    database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    query = "SELECT sealed FROM by_hand WHERE id = ?"
    return lambda connection_id: str(database.execute(query, (connection_id,)).fetchone()[0])


def _postgresql_read(url: str) -> Callable[[str], str]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    database = psycopg.connect(plain, autocommit=True)
    query = "SELECT sealed FROM by_hand WHERE id = %s"

    def read(connection_id: str) -> str:
        found = database.execute(query, (connection_id,)).fetchone()
        assert found is not None
        return str(found[0])

    return read


class _Timed(SQLAlchemyStorage):
    """A storage that notes how long its longest transaction of many tokens took."""

    longest_seconds = 0.0

    def swap_tokens(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        began = time.perf_counter()
        done = super().swap_tokens(changes)
        self.longest_seconds = max(self.longest_seconds, time.perf_counter() - began)
        return done


def rotating(kind: str, *, rows: int = 20_000, rounds: int = 5) -> list[Line]:
    """A change of keys over *rows*, against as many rows changed by SQLAlchemy and the driver."""
    with databases.named(kind) as url, databases.named(kind) as other:
        keys = [new_key(f"k{number}") for number in range(rounds + 1)]
        for each in (url, other):
            fill(Ours(_NOWHERE, each, key=keys[0]).finch, each, numbers=range(rows))
        changes = itertools.pairwise(keys)
        costs: Costs = {"ours": lambda: _rotated(url, *next(changes)), **_updates(other)}
        found = measured(costs, rounds=rounds)
    rates = {name: [rows / cost for cost in each] for name, each in found.items()}
    what = f"rotating keys, {kind}: rate"
    return [
        line(what, rates["ours"], rates[name], against=against, better="more")
        for name, against in (
            ("orm", "SQLAlchemy's bulk update (ORM)"),
            ("core", "SQLAlchemy Core's update"),
            ("raw", "the driver's executemany"),
        )
    ]


def beside_rotation(kind: str, *, rows: int = 50_000, rounds: int = 3) -> list[Line]:
    """How long another process waits while keys are changed, against what is allowed."""
    longest, waited = [], []
    with databases.named(kind) as url:
        keys = [new_key(f"k{number}") for number in range(rounds + 1)]
        fill(Ours(_NOWHERE, url, key=keys[0]).finch, url, numbers=range(rows))
        for old, new in itertools.pairwise(keys):
            storage = _Timed(url)
            settings = environ(url, key=new, accepted_keys=old)
            with writing(settings, rows=rows, writers=1) as [writer]:
                _rotated(storage, old, new)
            assert not writer.result().faults
            longest.append(storage.longest_seconds)
            waited.append(writer.result().slowest_ms / 1000)
    what = f"rotating keys, {kind}"
    return [
        line(f"{what}: longest transaction", longest, [0.04] * rounds, against="40 ms"),
        line(f"{what}: slowest change beside it", waited, [0.05] * rounds, against="50 ms"),
    ]


def _rotated(storage: Any, old: str, new: str) -> float:
    finch = Ours(_NOWHERE, storage, key=new, accepted_keys=[old]).finch
    finch.storage.check()
    if isinstance(storage, str):
        databases.calm(create_engine(storage))
    cost = seconds(lambda: list(finch.rotation.run()))
    assert finch.rotation.outdated(finch.rotation.census()) == 0
    return cost


def _updates(url: str) -> Costs:
    """
    As many rows given other texts in one transaction, without any cryptography.

    SQLAlchemy reads the rows first, as a script has to; the driver gets texts that are known.
    """
    engine = engine_for(url)
    table = Table("finch_connections", MetaData(), autoload_with=engine)
    row: type[Any] = type("Row", (), {})
    registry().map_imperatively(row, table)
    both = select(table.c.connection_hash, table.c.sealed)
    statement = (
        update(table)
        .where(table.c.connection_hash == bindparam("key"))
        .values(sealed=bindparam("text"))
    )
    mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
    query = f"UPDATE finch_connections SET sealed = {mark} WHERE connection_hash = {mark}"

    def orm() -> None:
        with Session(engine) as database:
            rows = [
                {"connection_hash": key, "sealed": _changed(text)}
                for key, text in database.execute(both)
            ]
            database.execute(update(row), rows)
            database.commit()

    def core() -> None:
        with engine.begin() as database:
            rows = [{"key": key, "text": _changed(text)} for key, text in database.execute(both)]
            database.execute(statement, rows)

    def raw() -> float:
        with engine.connect() as reading:
            rows = [(_changed(text), key) for key, text in reading.execute(both)]
        database = engine.raw_connection()
        cost = seconds(lambda: (database.cursor().executemany(query, rows), database.commit()))
        database.close()
        return cost

    ways = {"orm": lambda: seconds(orm), "core": lambda: seconds(core), "raw": raw}
    return {name: partial(_calmly, engine, cost) for name, cost in ways.items()}


def _calmly(engine: Engine, cost: Callable[[], float]) -> float:
    databases.calm(engine)
    return cost()


def _changed(text: str) -> str:
    # SQLite writes no page that would stay as it is.
    return text[:-8] + secrets.token_hex(4)
