"""Sessions that ended while nobody used them, and servers that send rubbish."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

from finch_middleware.errors import StorageUnavailable
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.sample_records import an_attempt, key_of
from tests.fuzz.seeds import seeded
from tests.site import Browser, Site


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The application's, as Flask-SQLAlchemy makes it: without a ping."""
    engine = create_engine(url, pool_size=4)
    yield engine
    engine.dispose()


def _fill(engine: Engine) -> None:
    """Four sessions in the pool, all of which the storage has used."""
    held = [engine.connect() for _ in range(4)]
    for each in held:
        each.close()


@pytest.mark.parametrize("call", ["claim", "attempt", "check"])
@pytest.mark.parametrize("shared", [False, True], ids=["url", "engine"])
def test_first_call_after_the_sessions_ended_overnight_succeeds(
    url: str, engine: Engine, cut_connections: Callable[[], None], call: str, shared: bool
) -> None:
    storage = SQLAlchemyStorage(engine if shared else url)
    storage.claim(an_attempt("before"))
    _fill(storage._database._engine)

    cut_connections()

    if call == "claim":
        assert storage.claim(an_attempt()) is None
    elif call == "attempt":
        assert storage.attempt(key_of("before")) == an_attempt("before")
    else:
        storage.check()
    storage.close()


def test_first_employer_of_the_day_is_connected(
    engine: Engine, cut_connections: Callable[[], None], fake: FakeFinch, tmp_path: Any
) -> None:
    storage = SQLAlchemyStorage(engine)
    with Site(fake, storage=storage, spool=tmp_path / "spool") as site:
        browser = Browser(site)
        _fill(engine)
        cut_connections()
        callback = fake.allow(browser.location())
        _fill(engine)
        cut_connections()

        assert "finch=connected" in browser.get(callback).location


def test_session_that_ends_after_begin_is_not_tried_again(
    engine: Engine, operator: Engine, cut_connections: Callable[[], None]
) -> None:
    storage = SQLAlchemyStorage(engine)
    storage.check()
    tries: list[object] = []

    def work(db: Any) -> None:
        tries.append(db)
        cut_connections()
        db.execute(storage._sql.claim, an_attempt().as_row())

    with pytest.raises(StorageUnavailable):
        storage._database.write(work)

    assert len(tries) == 1


class Garbler:
    """A line to a database server, whose responses are random once it is told so."""

    def __init__(self, url: str, chance: random.Random) -> None:
        query = make_url(url).query
        self._path = query.get("unix_socket") or f"{query['host']}/.s.PGSQL.5432"
        self._random = chance
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.garbles = False
        host, port = self._listening.getsockname()
        given = make_url(url).difference_update_query(["unix_socket", "host"])
        self.url = given.set(host=host, port=port)
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """End it, once the storage has closed its connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _start(self, work: Callable[..., None], *given: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._path))
                self._start(self._forward, client, server, False)
                self._start(self._forward, server, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, changes: bool) -> None:
        with contextlib.suppress(OSError):
            while sent := source.recv(65536):
                target.sendall(self._garbled(sent) if changes and self.garbles else sent)
        for line in (target, source):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        # The other direction closes the other one.
        source.close()

    def _garbled(self, sent: bytes) -> bytes:
        kind = self._random.randrange(3)
        if kind == 0:
            return self._random.randbytes(self._random.randrange(1, 200))
        at = self._random.randrange(len(sent))
        if kind == 1:
            # One byte is another.
            return sent[:at] + self._random.randbytes(1) + sent[at + 1 :]
        return sent[:at] + self._random.randbytes(len(sent) - at)


@pytest.mark.usefixtures("impatient")
def test_nothing_but_our_own_error_leaves_a_storage_whose_server_sends_rubbish(url: str) -> None:
    garbler = Garbler(url, seeded())
    storage = SQLAlchemyStorage(garbler.url)
    storage.claim(an_attempt())
    other: list[BaseException] = []

    for i in range(15):
        garbler.garbles = True
        for call in (
            storage.check,
            lambda: storage.attempt(key_of("code")),
            lambda i=i: storage.claim(an_attempt(f"other-{i}")),
        ):
            try:
                call()
            except StorageUnavailable as fault:
                other += [fault.__context__] if fault.__context__ else []
            except BaseException as error:
                other.append(error)
        garbler.garbles = False
        # Nobody else reads what was left of a response.
        assert storage.attempt(key_of("code")) == an_attempt()

    assert other == []
    storage.close()
    garbler.close()
