"""Requests to the fake Finch, as an application's server and as a bare socket make them."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from finch_middleware.testing.fake_finch import FakeFinch

REDIRECT_URI = "http://localhost:5000/finch/callback"
VERSION = {"Finch-API-Version": "2020-09-17"}
SESSION = {"customer_id": "acme", "customer_name": "Acme Inc.", "products": ["company"]}
#: Longer than any request takes on a busy machine.
TIMEOUT_SECONDS = 120


def post(
    fake: FakeFinch, path: str, fields: Mapping[str, Any], *, http: Any = requests, **options: Any
) -> Any:
    """The response to *fields*, without those that are ``absent``."""
    return http.post(
        fake.api_url + path,
        json={name: value for name, value in fields.items() if value != "absent"},
        headers=VERSION,
        timeout=TIMEOUT_SECONDS,
        **options,
    )


def open_session(fake: FakeFinch, *, path: str = "/connect/sessions", **fields: Any) -> Any:
    client = (fake.client_id, fake.client_secret)
    return post(fake, path, SESSION | fields, auth=client)


def body_of(fake: FakeFinch, code: str) -> dict[str, Any]:
    return {"client_id": fake.client_id, "client_secret": fake.client_secret, "code": code}


def present(fake: FakeFinch, code: str, **options: Any) -> Any:
    """The response to an exchange of an embedded code."""
    return post(fake, "/auth/token", body_of(fake, code), **options)


def get(url: str, **options: Any) -> Any:
    return requests.get(url, timeout=TIMEOUT_SECONDS, **options)


def connect(fake: FakeFinch) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(fake)), timeout=TIMEOUT_SECONDS)


def send(fake: FakeFinch, code: str) -> socket.socket:
    """A socket that has sent a whole exchange, and read nothing yet."""
    body = json.dumps(body_of(fake, code))
    head = (
        "POST /auth/token HTTP/1.1\r\nHost: x\r\nFinch-API-Version: 2020-09-17\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = connect(fake)
    connection.sendall((head + body).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def port_of(fake: FakeFinch) -> int:
    return int(fake.api_url.rsplit(":", 1)[1])


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)
