"""Real servers with a fault for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pymysql
from redis import Redis

from tests.storage.servers import Server
from tests.waiting import wait_until

Trouble = Callable[[Server], AbstractContextManager[None]]


@contextmanager
def gone(server: Server) -> Iterator[None]:
    """Stopped without a goodbye, and started again."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def postgresql_read_only(server: Server) -> Iterator[None]:
    """As a replica is after a failover."""
    setting = "ALTER SYSTEM SET default_transaction_read_only"
    _postgresql(server, f"{setting} = on", "SELECT pg_reload_conf()")
    wait_until(lambda: _postgresql(server, "SHOW default_transaction_read_only") == "on")
    try:
        yield
    finally:
        end = "BEGIN READ WRITE", "ROLLBACK", f"{setting} = off", "SELECT pg_reload_conf()"
        _postgresql(server, *end)
        wait_until(lambda: _postgresql(server, "SHOW default_transaction_read_only") == "off")


@contextmanager
def postgresql_locked(server: Server) -> Iterator[None]:
    """Somebody holds the table and does not let go."""
    with psycopg.connect(_libpq(server)) as other:
        other.execute("LOCK TABLE finch_attempts IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@contextmanager
def mysql_read_only(server: Server) -> Iterator[None]:
    """As a replica is, for all but its operator."""
    _mysql(server, "SET GLOBAL read_only = 1")
    try:
        yield
    finally:
        _mysql(server, "SET GLOBAL read_only = 0")


@contextmanager
def mysql_locked(server: Server) -> Iterator[None]:
    """Somebody holds the table and does not let go."""
    with closing(_pymysql(server)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES finch_attempts WRITE")
        yield
        cursor.execute("UNLOCK TABLES")


def mysql_application(server: Server) -> str:
    """The URL of a user who is not the operator, and so is bound by read_only."""
    _mysql(
        server,
        "CREATE USER IF NOT EXISTS application@localhost",
        "GRANT ALL ON test.* TO application@localhost",
    )
    return server.url.replace("root@", "application@")


@contextmanager
def redis_without_replicas(server: Server) -> Iterator[None]:
    """It refuses writes until a replica takes them too."""
    with Redis.from_url(server.url) as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def redis_full(server: Server) -> Iterator[None]:
    """It has no memory left, and evicts nothing."""
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


def _libpq(server: Server) -> str:
    [folder] = parse_qs(urlsplit(server.url).query)["host"]
    return f"host={folder} user=finch dbname=postgres"


def _postgresql(server: Server, *statements: str) -> Any:
    """The first value that the last of the statements answers."""
    with psycopg.connect(_libpq(server), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return row[0] if cursor.description and (row := cursor.fetchone()) else None


def _pymysql(server: Server) -> Any:
    [socket] = parse_qs(urlsplit(server.url).query)["unix_socket"]
    return pymysql.connect(user="root", database="test", unix_socket=socket, autocommit=True)


def _mysql(server: Server, *statements: str) -> None:
    with closing(_pymysql(server)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
