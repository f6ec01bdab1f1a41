"""Around the callback: requests that are forwarded, the import, tokens read, keys rotated."""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import MetaData, Table, bindparam, create_engine, select, text, update
from sqlalchemy.engine import make_url
from werkzeug.test import EnvironBuilder

from benchmarks import databases
from benchmarks.peers import Ours
from benchmarks.ratios import Line, line, measured, seconds
from benchmarks.rotation import fill
from benchmarks.token_server import TokenServer
from finch_middleware import FinchConnect, FinchMiddleware, new_key

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


def reading(kind: str, *, rows: int) -> list[Line]:
    """One token, from a storage of *rows*: ours, the bare driver, and SQLAlchemy Core by hand."""
    with databases.named(kind) as url:
        finch = Ours(_NOWHERE, url).finch
        for start in range(0, rows, 5_000):
            fill(finch, url, numbers=range(start, min(start + 5_000, rows)))
        ids = iter(lambda: f"connection-{secrets.randbelow(rows)}", None)
        with _by_hand(url, rows) as (raw, core):
            found = measured(
                {
                    "ours": lambda: seconds(lambda: _revealed(finch, next(ids)), times=200),
                    "raw": lambda: seconds(lambda: raw(next(ids)), times=200),
                    "core": lambda: seconds(lambda: core(next(ids)), times=200),
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


def rotating(kind: str, *, rows: int = 10_000) -> list[Line]:
    """A change of keys over *rows*, against the same updates through SQLAlchemy and the driver."""
    costs: dict[str, list[float]] = {"ours": [], "bulk": [], "raw": []}
    for _ in range(3):
        with databases.named(kind) as url:
            before, after = new_key("k1"), new_key("k2")
            fill(Ours(_NOWHERE, url, key=before).finch, url, numbers=range(rows))
            finch = Ours(_NOWHERE, url, key=after, accepted_keys=[before]).finch
            costs["ours"].append(_rotated(finch, url, rows=rows))
            for name, cost in _updates(url, rows=rows).items():
                costs[name].append(cost)
    rates = {name: [rows / cost for cost in each] for name, each in costs.items()}
    what = f"rotating keys, {kind}: rate"
    return [
        line(what, rates["ours"], rates["bulk"], against="SQLAlchemy's update", better="more"),
        line(what, rates["ours"], rates["raw"], against="the driver's executemany", better="more"),
    ]


def _rotated(finch: FinchConnect, url: str, *, rows: int) -> float:
    done = []
    cost = seconds(lambda: done.extend(finch.rotation.run()))
    assert done[-1].resealed == rows, done[-1]
    return cost


def _updates(url: str, *, rows: int) -> dict[str, float]:
    """The same rows given other texts, known beforehand: in bulk, and by the driver alone."""
    engine = create_engine(url)
    table = Table("finch_connections", MetaData(), autoload_with=engine)
    with engine.begin() as database:
        known = database.execute(select(table.c.connection_hash, table.c.sealed)).all()
    # Other texts each time: SQLite writes no page that would stay as it is.
    new, newer = (
        [{"key": key, "text": sealed[:-8] + end} for key, sealed in known]
        for end in ("AAAAAAAA", "BBBBBBBB")
    )
    statement = (
        update(table)
        .where(table.c.connection_hash == bindparam("key"))
        .values(sealed=bindparam("text"))
    )

    def bulk() -> None:
        with engine.begin() as database:
            database.execute(statement, new)

    def raw() -> None:
        mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
        query = f"UPDATE finch_connections SET sealed = {mark} WHERE connection_hash = {mark}"
        database = engine.raw_connection()
        database.cursor().executemany(query, [(each["text"], each["key"]) for each in newer])
        database.commit()
        database.close()

    costs = {"bulk": seconds(bulk), "raw": seconds(raw)}
    engine.dispose()
    return costs
