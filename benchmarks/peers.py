"""
What a Python team would use instead, each as a whole WSGI application with a callback.

They store tokens as plain text, in one commit, as their documentation shows; SQLite is in WAL mode
and synchronous FULL for all. `Limit` is no library: the least work that buys a code over
HTTP, encrypts the token and commits once.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import secrets
import sqlite3
import ssl
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask, redirect, request as flask_request, session
from sqlalchemy import String, create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.test import Client, EnvironBuilder

from benchmarks.token_server import TokenServer
from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.storage.protocol import Storage

_CLIENT = {"client_id": "client", "client_secret": "s3cret"}
_SITE = "http://localhost"
_BACK = f"{_SITE}/finch/callback"
_KEY = new_key("k1")
_AUTHORIZE = "https://connect.invalid/authorize"


class Subject(ABC):
    """An application that can finish callbacks, and says how many it has stored."""

    name: ClassVar[str]
    begin_path: ClassVar[str] = "/begin"
    callback_path: ClassVar[str] = "/finch/callback"
    app: Any

    @abstractmethod
    def stored(self) -> int:
        """The rows with a token."""

    def prepared(self, customer: str) -> dict[str, Any]:
        """The request of a browser that comes back from the login."""
        browser = Client(self.app)
        begun = browser.get(self.begin_path, base_url=_SITE, query_string={"customer": customer})
        sent = parse_qs(urlsplit(begun.headers["Location"]).query)
        query = {"code": f"{customer}~{secrets.token_urlsafe(24)}"}
        query |= {"state": sent["state"][0]} if "state" in sent else {}
        cookies = "; ".join(f"{each.key}={each.value}" for each in browser._cookies.values())
        return EnvironBuilder(
            self.callback_path, base_url=_SITE, query_string=query, headers={"Cookie": cookies}
        ).get_environ()

    def finish(self, environ: dict[str, Any]) -> None:
        """Serve the callback; anything but a redirect or a page of success is an error."""
        status = []
        body = self.app(environ, lambda line, headers, exc_info=None: status.append(line))
        b"".join(body)
        if hasattr(body, "close"):
            body.close()
        assert status[0][:3] in {"200", "302", "303"}, (self.name, status)


class Ours(Subject):
    name = "finch_middleware"

    def __init__(self, server: TokenServer, url: str | Storage, **options: Any) -> None:
        self.finch = FinchConnect(
            **_CLIENT,
            redirect_uri=_BACK,
            products=["company", "directory"],
            storage=url,
            key=options.pop("key", None) or _KEY,
            spool=tempfile.mkdtemp(),
            api_url=server.url,
            connect_origin="https://connect.invalid",
            ca_bundle=str(server.ca_file) if server.ca_file else None,
            **options,
        )
        self.finch.storage.create_tables()
        self.app = FinchMiddleware(self._begin, self.finch)

    def _begin(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        customer = environ["QUERY_STRING"].partition("=")[2]
        begun = self.finch.begin(customer_id=customer, customer_name="Acme", return_to="/")
        return begun(environ, start_response)

    def stored(self) -> int:
        return sum(1 for _ in self.finch.storage.connections())


class Base(DeclarativeBase):
    pass


class Token(Base):
    __tablename__ = "token"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(64), index=True)
    connection: Mapped[str] = mapped_column(String(64))
    access_token: Mapped[str] = mapped_column(String(200))


def engine_for(url: str) -> Any:
    """An Engine as a team makes it; SQLite with the journal and the sync that ours has."""
    engine = create_engine(url)
    if url.startswith("sqlite"):

        @event.listens_for(engine, "connect")
        def pragmas(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    Base.metadata.create_all(engine)
    return engine


class FlaskPeer(Subject):
    """An application on Flask that keeps tokens through SQLAlchemy's ORM."""

    def __init__(self, server: TokenServer, url: str) -> None:
        os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
        os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
        if server.ca_file:
            os.environ["REQUESTS_CA_BUNDLE"] = str(server.ca_file)
        self.server, self.engine = server, engine_for(url)
        self.app = Flask(self.name)
        self.app.secret_key = secrets.token_bytes(32)
        self.app.add_url_rule("/begin", "begin", self.begin)
        self.app.add_url_rule("/finch/callback", "callback", self.callback)

    def begin(self) -> Any:
        session["state"] = secrets.token_urlsafe(32)
        session["customer"] = flask_request.args["customer"]
        return redirect(f"{_AUTHORIZE}?state={session['state']}")

    @abstractmethod
    def callback(self) -> Any:
        """Buy the code, keep the token, send the person on."""

    def keep(self, token: dict[str, Any]) -> Any:
        row = Token(
            customer=token["customer_id"],
            connection=token["connection_id"],
            access_token=token["access_token"],
        )
        with Session(self.engine) as database:
            database.add(row)
            database.commit()
        return redirect("/")

    def stored(self) -> int:
        with Session(self.engine) as database:
            return database.scalar(select(func.count()).select_from(Token)) or 0


class ByHand(FlaskPeer):
    name = "Flask, requests.post, ORM"

    def callback(self) -> Any:
        assert secrets.compare_digest(session.pop("state"), flask_request.args["state"])
        sent = {**_CLIENT, "code": flask_request.args["code"], "redirect_uri": _BACK}
        answer = requests.post(f"{self.server.url}/auth/token", json=sent, timeout=10)
        answer.raise_for_status()
        return self.keep(answer.json())


class RequestsOauthlib(FlaskPeer):
    name = "requests-oauthlib"

    def callback(self) -> Any:
        from requests_oauthlib import OAuth2Session

        client = OAuth2Session("client", redirect_uri=_BACK, state=session.pop("state"))
        return self.keep(
            client.fetch_token(
                f"{self.server.url}/auth/token",
                authorization_response=flask_request.url,
                client_secret="s3cret",
            )
        )


class Authlib(FlaskPeer):
    name = "Authlib"

    def __init__(self, server: TokenServer, url: str) -> None:
        from authlib.integrations.flask_client import OAuth

        super().__init__(server, url)
        self.oauth = OAuth(self.app)
        self.oauth.register(
            "finch",
            access_token_url=f"{server.url}/auth/token",
            authorize_url=_AUTHORIZE,
            **_CLIENT,
        )

    def begin(self) -> Any:
        return self.oauth.finch.authorize_redirect(_BACK)

    def callback(self) -> Any:
        return self.keep(self.oauth.finch.authorize_access_token())


class FlaskDance(FlaskPeer):
    name = "Flask-Dance"
    begin_path = "/finch"
    callback_path = "/finch/authorized"

    def __init__(self, server: TokenServer, url: str) -> None:
        from flask_dance.consumer import OAuth2ConsumerBlueprint, oauth_authorized

        super().__init__(server, url)
        blueprint = OAuth2ConsumerBlueprint(
            "finch",
            "finch",
            token_url=f"{server.url}/auth/token",
            authorization_url=_AUTHORIZE,
            redirect_url="/",
            **_CLIENT,
        )
        self.app.register_blueprint(blueprint)
        oauth_authorized.connect(self._authorized, sender=blueprint, weak=False)

    def _authorized(self, sender: object, token: dict[str, Any]) -> bool:
        self.keep(token)
        return False

    def callback(self) -> Any:
        """Flask-Dance answers at a path of its own; this one begins again."""
        return redirect(self.begin_path)


class SlackBolt(Subject):
    """Slack's own flow; it asks auth.test as well, and stores through sqlite3 directly."""

    name = "slack_bolt"
    callback_path = "/slack/oauth_redirect"

    def __init__(self, server: TokenServer, url: str) -> None:
        from slack_bolt import App
        from slack_bolt.adapter.flask import SlackRequestHandler
        from slack_bolt.oauth import OAuthFlow
        from slack_sdk import WebClient

        if server.ca_file:
            # Its client has no context of its own: urllib reads this file for each request.
            os.environ["SSL_CERT_FILE"] = str(server.ca_file)
        self._path = url.removeprefix("sqlite:///")
        with sqlite3.connect(self._path) as database:
            database.execute("PRAGMA journal_mode=WAL")
        flow = OAuthFlow.sqlite3(
            self._path,
            **_CLIENT,
            scopes=["chat:write"],
            client=WebClient(base_url=f"{server.url}/api/"),
            logger=logging.getLogger("slack"),
        )
        handler = SlackRequestHandler(App(signing_secret="s3cret", oauth_flow=flow))
        self.app = Flask(self.name)
        for path in ("/begin", self.callback_path):
            self.app.add_url_rule(path, path, lambda: handler.handle(flask_request))
        self._flow = flow

    def prepared(self, customer: str) -> dict[str, Any]:
        state = self._flow.settings.state_store.issue()
        query = {"code": f"{customer}~{secrets.token_urlsafe(24)}", "state": state}
        cookie = f"{self._flow.settings.state_cookie_name}={state}"
        return EnvironBuilder(
            self.callback_path, base_url=_SITE, query_string=query, headers={"Cookie": cookie}
        ).get_environ()

    def stored(self) -> int:
        with sqlite3.connect(self._path) as database:
            return int(database.execute("SELECT count(*) FROM slack_bots").fetchone()[0])


class Limit(Subject):
    """No library: http.client kept open, AES-GCM, and one commit in SQLite."""

    name = "the limit by hand"

    def __init__(self, server: TokenServer, url: str) -> None:
        self._address = urlsplit(server.url)
        self._tls = ssl.create_default_context(cafile=server.ca_file) if server.ca_file else None
        self._path = url.removeprefix("sqlite:///")
        self._kept = threading.local()
        self._cipher = AESGCM(secrets.token_bytes(32))
        with self._database() as database:
            database.execute("CREATE TABLE token (connection TEXT PRIMARY KEY, sealed BLOB)")

    def _database(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        return database

    def _mine(self) -> tuple[http.client.HTTPConnection, sqlite3.Connection]:
        if not hasattr(self._kept, "both"):
            host, port = self._address.hostname or "", self._address.port
            if self._tls:
                client: http.client.HTTPConnection = http.client.HTTPSConnection(
                    host, port, context=self._tls
                )
            else:
                client = http.client.HTTPConnection(host, port)
            self._kept.both = client, self._database()
        return self._kept.both

    def prepared(self, customer: str) -> dict[str, Any]:
        return {"code": f"{customer}~{secrets.token_urlsafe(24)}"}

    def finish(self, environ: dict[str, Any]) -> None:
        client, database = self._mine()
        sent = json.dumps({**_CLIENT, "code": environ["code"], "redirect_uri": _BACK})
        client.request("POST", "/auth/token", sent, {"Content-Type": "application/json"})
        text = client.getresponse().read()
        connection_id = json.loads(text)["connection_id"]
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._cipher.encrypt(nonce, text, connection_id.encode())
        database.execute("INSERT INTO token VALUES (?, ?)", (connection_id, sealed))

    def stored(self) -> int:
        with self._database() as database:
            return int(database.execute("SELECT count(*) FROM token").fetchone()[0])


PEERS = (ByHand, RequestsOauthlib, Authlib, FlaskDance, SlackBolt)
