"""One object, at least, for every public name, as a flow with real secrets makes it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware import (
    CallbackRequest,
    ConnectSession,
    Customer,
    EndedConnection,
    FinchConnect,
    HistoryEntry,
    MemoryStorage,
    Outcome,
    Problem,
    RedactCallback,
    RedisStorage,
    Scan,
    SQLAlchemyStorage,
    StatusChange,
    StoredConnection,
)
from finch_middleware.crypto.keys import wrapped_key
from finch_middleware.secret import Secret
from finch_middleware.testing.fake_finch import Behaviour
from tests.canaries.scenarios import blocked, with_options
from tests.canaries.scene import Scene
from tests.story.oracle import attempt_of


def _request(scene: Scene, callback: str) -> CallbackRequest:
    cookie = "; ".join(f"{name}={value}" for name, value in scene.browser.cookies.items())
    return CallbackRequest(query_string=callback.partition("?")[2], headers={"Cookie": cookie})


def _finished(scene: Scene, callback: str) -> Outcome:
    return scene.site.finch.finish(_request(scene, callback))


def _allowed(scene: Scene) -> str:
    return scene.fake.allow(scene.browser.location("acme"))


def _error(scene: Scene, action: Callable[[], object]) -> BaseException:
    scene.fails(action)
    return scene.errors[-1]


def _begin(scene: Scene, **opening: Any) -> BaseException:
    begin = scene.site.finch.begin
    return _error(scene, lambda: begin(customer_id="acme", customer_name="Acme", **opening))


def _scripted(scene: Scene, *, status: int, **opening: Any) -> BaseException:
    context = {"connection_id": "c-1"} if opening else {}
    more: dict[str, Any] = {"context": context} if context else {}
    scene.fake.script("sessions", Behaviour.error(status, **more))
    return _begin(scene, **opening)


def _no_storage(scene: Scene) -> BaseException:
    scene.storage.down("check")
    return _begin(scene)


def _no_spool(scene: Scene) -> BaseException:
    (scene.folder / "spool").mkdir(exist_ok=True)
    blocked(scene)
    return _begin(scene)


class Provider:
    """A key service whose errors tell everything."""

    def __init__(self, secret: str) -> None:
        self._secret = Secret(secret)

    def wrap(self, key: bytes) -> bytes:
        return b"wrapped" + key

    def unwrap(self, wrapped: bytes) -> bytes:
        raise LookupError(self._secret.reveal(), base64.b64encode(wrapped))


def _no_key(scene: Scene) -> BaseException:
    provider = Provider(scene.secrets()["key"])
    site = scene.open_site(key=wrapped_key("k1", provider=provider), key_provider=provider)
    return _error(scene, lambda: site.finch.begin(customer_id="acme", customer_name="Acme"))


def _misconfigured(scene: Scene) -> BaseException:
    secret = scene.fake.client_secret
    return _error(scene, lambda: FinchConnect(client_secret=secret, key=scene.key[:-4]))


def _tampered(scene: Scene) -> BaseException:
    scene.returned("acme")
    [row] = scene.storage.real.for_customer("acme")
    sealed = dataclasses.replace(row.sealed, text=row.sealed.text[:-3] + "AAA")
    scene.storage.real.swap(row, dataclasses.replace(row, sealed=sealed))
    [connection] = scene.site.finch.connections.for_customer("acme")
    return _error(scene, connection.access_token.reveal)


def _connection(scene: Scene) -> Any:
    scene.returned("acme")
    [connection] = scene.site.finch.connections.for_customer("acme")
    connection.access_token.reveal()
    return connection


def _repeated(scene: Scene) -> Outcome:
    callback = _allowed(scene)
    request = _request(scene, callback)
    scene.site.finch.finish(request)
    return scene.site.finch.finish(request)


def _finishing(scene: Scene) -> Outcome:
    callback = _allowed(scene)
    scene.storage.down("settle", times=3)
    return _finished(scene, callback)


def _failed(scene: Scene) -> Outcome:
    scene.fake.script("token", Behaviour.error(500, processed=True))
    return _finished(scene, _allowed(scene))


def _session(scene: Scene) -> ConnectSession:
    address = scene.browser.location("acme")
    return ConnectSession("session-1", address.partition("&state=")[0])


def _problem(scene: Scene) -> Problem:
    problems: list[Problem] = []
    with_options(scene, on_connected=lambda connection: 1 / 0, on_problem=problems.append)
    return problems[0]


def _history(scene: Scene) -> HistoryEntry:
    scene.returned("acme")
    [row] = scene.storage.real.for_customer("acme")
    return scene.site.finch.connections.history(row.connection_id, customer_id="acme")[0]


def _ended(scene: Scene) -> tuple[StatusChange, EndedConnection]:
    given: list[Any] = []
    site = scene.open_site(on_status=given.append, on_disconnected=given.append)
    scene.returned("acme")
    [row] = scene.storage.real.for_customer("acme")
    ids = {"connection_id": row.connection_id, "customer_id": "acme"}
    site.finch.connections.refresh(**ids)
    site.finch.connections.disconnect(**ids)
    change, ended = given
    return change, ended


def _event(scene: Scene) -> Any:
    scene.returned("acme")
    return scene.site.events[-1]


def _stored(scene: Scene) -> StoredConnection:
    scene.returned("acme")
    [row] = scene.storage.real.for_customer("acme")
    return row


def _attempt(scene: Scene) -> Any:
    scene.returned("acme")
    return attempt_of(scene.site, scene.fake, scene.fake.ledger.codes[-1].code)


def _memory(scene: Scene) -> MemoryStorage:
    storage = MemoryStorage()
    storage.claim(_attempt(scene))
    return storage


def _other_table(scene: Scene) -> BaseException:
    engine = create_engine(f"sqlite:///{scene.folder}/other.db", poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE finch_attempts (id INTEGER)"))
    return _error(scene, SQLAlchemyStorage(engine).check)


#: Public name: how an object of that kind comes about.
PUBLIC: dict[str, Callable[[Scene], object]] = {
    "AccessToken": lambda scene: _connection(scene).access_token,
    "AlreadyConnected": lambda scene: _scripted(scene, status=400, when_connected="raise"),
    "Attempt": _attempt,
    "Unavailable": _no_storage,
    "CallbackRequest": lambda scene: _request(scene, _allowed(scene)),
    "CannotOpen": _tampered,
    "ConfigurationError": _misconfigured,
    "ConnectSession": _session,
    "Connected": lambda scene: _finished(scene, _allowed(scene)),
    "Connection": _connection,
    "Connections": lambda scene: scene.site.finch.connections,
    "Customer": lambda scene: Customer(id="acme", name="Acme Inc.", email="pay@acme.test"),
    "Declined": lambda scene: _finished(scene, scene.fake.deny(scene.browser.location("acme"))),
    "EndedConnection": lambda scene: _ended(scene)[1],
    "Event": _event,
    "Failed": _failed,
    "FinchConnect": lambda scene: scene.site.finch,
    "FinchError": lambda scene: _begin(scene, return_to="//evil.test"),
    "FinchMiddleware": lambda scene: scene.site.app,
    "FinchRefused": lambda scene: _scripted(scene, status=400),
    "FinchUnavailable": lambda scene: _scripted(scene, status=429),
    "Finishing": _finishing,
    "Invalid": lambda scene: _finished(scene, _allowed(scene)[:-3] + "AAA"),
    "KeyProvider": lambda scene: Provider(scene.secrets()["key"]),
    "KeyUnavailable": _no_key,
    "MemoryStorage": _memory,
    "Outcome": lambda scene: _finished(scene, _allowed(scene)),
    "Problem": _problem,
    "StatusChange": lambda scene: _ended(scene)[0],
    "HistoryEntry": _history,
    "RedactCallback": lambda scene: RedactCallback(),
    "RedisStorage": lambda scene: RedisStorage(f"redis://:{scene.fake.client_secret}@localhost"),
    "Repeated": _repeated,
    "SQLAlchemyStorage": lambda scene: SQLAlchemyStorage(f"sqlite:///{scene.folder}/finch.db"),
    "Scan": lambda scene: Scan(rows=[_stored(scene)], after=None),
    "SchemaMismatch": _other_table,
    "Secret": lambda scene: Secret(scene.fake.client_secret),
    "SpoolUnavailable": _no_spool,
    "Storage": lambda scene: scene.storage.real,
    "StorageUnavailable": _no_storage,
    "StoredConnection": _stored,
    "UnknownConnection": lambda scene: _begin(scene, connection_id="unknown"),
    "UsageError": lambda scene: _begin(scene, return_to="//evil.test"),
}

#: Public names whose objects hold a secret because that is what they are for.
BY_NATURE = {
    "Response": "werkzeug's; it carries the ticket to the browser that it belongs to",
    "WebhookEvent": "Finch's event for the application; its repr has neither `data` nor `body`",
    "new_key": "a function that returns a key for the application's settings",
    "wrapped_key": "a function that returns a key which the key service has encrypted",
}
