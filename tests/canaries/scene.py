"""A site whose secrets are known, and what a scenario leaves of them."""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from finch_middleware import Event
from finch_middleware.crypto.keys import new_key
from finch_middleware.storage.open import open_storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.canaries.harvest import (
    Logged,
    everything_logged,
    files_of,
    told_by,
    told_by_object,
    written_by,
)
from tests.canaries.spellings import hits
from tests.faulty_storage import FaultyStorage
from tests.site import Answer, Browser, Site
from tests.storage.servers import Server
from tests.waiting import wait_until


class Scene:
    """
    One fake Finch, one site with a spool, one browser; all of it watched.

    On SQLite, unless `server` is given: its database is emptied, and the site uses it.

    Attributes:
        storage: The site's, with troubles on demand.
        things: Objects to look into.
        codes: Codes that the fake never issued.
    """

    def __init__(
        self,
        folder: Path,
        *,
        printed: Callable[[], str] = str,
        server: Server | None = None,
        **options: Any,
    ) -> None:
        self.folder, self.clock = folder, Clock()
        self.server, self._printed = server, printed
        self.fake = FakeFinch(client_secret=secrets.token_urlsafe(32))
        self.key = new_key("canary")
        url = server.url if server else f"sqlite:///{folder}/finch.db"
        self.storage = FaultyStorage(open_storage(url))
        self.things: list[Any] = []
        self.errors: list[BaseException] = []
        self.codes: list[str] = []
        self.answers: list[Answer] = []
        self._options = options
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        self.logged: Logged = self._stack.enter_context(everything_logged())
        self._warned = self._stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        self._stack.enter_context(self.fake)
        self.site = self.open_site(**self._options)
        self.browser = Browser(self.site)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open_site(self, **options: Any) -> Site:
        """Another site on the same storage."""
        given = {
            "storage": self.storage,
            "key": self.key,
            "spool": self.folder / "spool",
            "clock": self.clock,
            **options,
        }
        return self._stack.enter_context(Site(self.fake, **given))

    def visit(self, address: str, **headers: str) -> Answer:
        """Navigate, and keep the answer to look into."""
        return self.kept(self.browser.get(address, **headers))

    def kept(self, answer: Answer) -> Answer:
        """*answer*, kept to look into."""
        self.answers.append(answer)
        return answer

    def returned(self, customer_id: str = "acme") -> Answer:
        """A whole flow."""
        return self.visit(self.fake.allow(self.browser.location(customer_id)))

    def fails(self, action: Callable[[], object]) -> None:
        """Run what is expected to raise, and keep the error to look into."""
        try:
            action()
        except Exception as error:  # any error is evidence here
            self.errors.append(error)
        else:
            raise AssertionError("nothing was raised")

    def secrets(self) -> dict[str, str]:
        """All that must not be found, by name."""
        known = {"client secret": self.fake.client_secret, "key": self.key.partition(":")[2]}
        codes = [*self.codes, *(issued.code for issued in self.fake.ledger.codes)]
        known |= {f"code {number}": code for number, code in enumerate(codes)}
        known |= {f"token {number}": each for number, each in enumerate(self.fake.ledger.tokens)}
        known |= {f"cookie or state {n}": each for n, each in enumerate(self.site.secrets)}
        return known

    def left(self) -> dict[str, bytes]:
        """What stands where others may read it, by place."""
        if self.server is not None:
            self._await_its_log(self.server)
        errors = [*self.errors, *self.site.errors]
        things = [*self.things, *errors, *self.site.events, self.site.finch, self.site.app]
        return {
            "log": _bytes(self.logged.lines),
            "errors": _bytes(map(told_by, errors)),
            "answers": b"\n".join(map(_shown, self.answers)),
            "events": _bytes(f"{each} {_texts(each)}" for each in self.site.events),
            "printed": _bytes([self._printed()]),
            "warnings": _bytes(str(each.message) for each in self._warned),
            "files": files_of(self.folder),
            "server": written_by(self.server.writes if self.server else ()),
            "objects": b"\n".join(map(told_by_object, things)),
        }

    def _await_its_log(self, server: Server) -> None:
        """Return when the server has logged everything that it has received."""
        last = f"the last statement {secrets.token_hex(8)}"
        tell(server, last)
        wait_until(lambda: last.encode() in written_by(server.writes))

    def leaks(self) -> list[tuple[str, str, str]]:
        """Place, secret and spelling of everything that was found."""
        known = self.secrets()
        return [(place, *hit) for place, text in self.left().items() for hit in hits(text, known)]


def tell(server: Server, text: str) -> None:
    """Send *text* to the server, as a careless storage would."""
    if server.url.startswith("unix:"):
        with Redis.from_url(server.url) as client:
            client.set("careless", text)
        return
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT %s", (text,))
    engine.dispose()


def _bytes(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _texts(event: Event) -> str:
    # A repr escapes what the text itself would show.
    return " ".join(map(str, dataclasses.astuple(event)))


def _shown(answer: Answer) -> bytes:
    """All of an answer but the cookies that it sets: those are the browser's own."""
    lines = [f"{n}: {v}" for n, v in answer.headers.items() if n.lower() != "set-cookie"]
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n" + answer.body


def query_of(address: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
