"""An exchange with a claimed attempt: everything is real but Finch's response."""

from __future__ import annotations

import dataclasses
import logging
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finch_middleware import Connection, Event
from finch_middleware.attempts import Attempt, Claim, End, outcome_of
from finch_middleware.errors import FinchFault
from finch_middleware.exchange import Exchange
from finch_middleware.hooks.connected import ConnectedHook
from finch_middleware.hooks.events import Events
from finch_middleware.records import Grant, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.spool import Spool
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.sample_records import an_attempt, key_of
from tests.faulty_storage import FaultyStorage
from tests.keys import a_vault

WITHIN = timedelta(seconds=12)
CODE = Secret("the-code")
CALLBACK = "https://app.example.com/finch/callback"

#: What is heard when a token of `a_grant` is stored.
STORED = ("finch.connection.stored", logging.INFO, None, "finch-1")


def a_grant(**changes: Any) -> Grant:
    given = {
        "document": Secret('{"access_token": "the-token"}'),
        "connection_id": "connection",
        "customer_id": "acme",
        "provider_id": "gusto",
        "products": ("company", "directory"),
        "client_type": "sandbox",
        "connection_type": "provider",
        "request_id": "finch-1",
    }
    return Grant(**{**given, **changes})


class Desk:
    """
    An exchange with a claimed attempt.

    Attributes:
        asked: The arguments of each exchange.
        hook_calls: What `on_connected` was given.
    """

    def __init__(self, *, spool: Path | None = None, hook: bool = True) -> None:
        self.clock = Clock()
        self.storage = FaultyStorage(MemoryStorage())
        self.events: list[Event] = []
        self.asked: list[tuple[Secret, str | None, timedelta]] = []
        self.hook_calls: list[Connection] = []
        self.answer: Grant | FinchFault = a_grant()
        self.vault = a_vault()
        self.settings: Any = SimpleNamespace(
            client_id="client",
            redirect_uri=CALLBACK,
            products=("company", "directory"),
            return_to="/of-the-settings",
            clock=self.clock,
            on_connected=self.hook_calls.append if hook else None,
        )
        client: Any = SimpleNamespace(exchange=self._exchange)
        events = Events(client_id="client", on_event=self.events.append)
        self.spool = Spool(spool)
        self.connected = ConnectedHook(
            hook=self.settings.on_connected, vault=self.vault, storage=self.storage, events=events
        )
        self.exchange = Exchange(
            settings=self.settings,
            client=client,
            vault=self.vault,
            storage=self.storage,
            spool=self.spool,
            connected=self.connected,
            events=events,
        )
        self.attempt = self._claimed()
        self.clock.move(timedelta(seconds=1))

    def _claimed(self) -> Attempt:
        attempt = an_attempt(
            claimed_at=self.clock(),
            leased_until=self.clock() + timedelta(seconds=60),
            customer_ids=("acme", "umbrella"),
            bound_to=(key_of("ticket"), key_of("other")),
        )
        assert self.storage.claim(attempt) is None
        return attempt

    def redeem(
        self,
        *,
        flow_hash: bytes | None = None,
        redirect_uri: str | None = CALLBACK,
        known: tuple[StoredConnection, ...] = (),
    ) -> Any:
        """The outcome of one presentation; with *flow_hash* it ends a flow of acme's."""
        attempt = dataclasses.replace(self.attempt, return_to="/of-the-binding")
        place = "/of-the-ticket" if flow_hash else "/of-the-binding"
        ends = {
            "acme": End(flow_hash=flow_hash, bound_to=(key_of("ticket"),), return_to=place),
            "umbrella": End(
                flow_hash=None, bound_to=(key_of("other"),), return_to="/of-the-binding"
            ),
        }
        claim = Claim(attempt=attempt, redirect_uri=redirect_uri, ends=ends)
        exchanged = self.exchange.run(claim, CODE, existing=known, within=WITHIN)
        return outcome_of(exchanged.attempt, spooled=exchanged.spooled)

    @property
    def standing(self) -> Attempt | None:
        return self.storage.real.attempt(self.attempt.code_hash)

    @property
    def connection(self) -> StoredConnection | None:
        return self.storage.real.get("connection")

    def heard(self) -> list[tuple[str, int, str | None, str | None]]:
        """The events, each of which must say whose attempt it is about."""
        assert {each.attempt_id for each in self.events} <= {self.attempt.attempt_id}
        assert {each.reference for each in self.events} <= {self.attempt.reference}
        return [(each.name, each.level, each.reason, each.request_id) for each in self.events]

    def _exchange(self, code: Secret, *, redirect_uri: str | None, within: timedelta) -> Grant:
        self.asked.append((code, redirect_uri, within))
        if isinstance(self.answer, FinchFault):
            raise self.answer
        return self.answer
