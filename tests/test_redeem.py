"""From a claimed code to its end, step by step: everything real but Finch's answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware import Connected, Connection, Event, Failed, Finishing, Invalid, keeping
from finch_middleware import redeem as redeem_module
from finch_middleware.binding import Binding, LiveFlow
from finch_middleware.errors import (
    BadResponse,
    CodeRejected,
    ExchangeAmbiguous,
    FinchFault,
    FinchUnavailable,
)
from finch_middleware.events import Events
from finch_middleware.keeping import Keeping
from finch_middleware.options import Key, new_key
from finch_middleware.records import Attempt, AttemptState, Grant, StoredConnection
from finch_middleware.redeem import Redeemer
from finch_middleware.secret import Secret
from finch_middleware.spool import Spool
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.sample_records import a_connection, an_attempt, key_of
from finch_middleware.tickets import REPLAY_WINDOW, Ticket, Tickets
from finch_middleware.vault import Vault
from tests.story.troubled_storage import TroubledStorage

WITHIN = timedelta(seconds=12)
CODE = Secret("the-code")


def a_grant(**changes: Any) -> Grant:
    given = {
        "access_token": Secret("the-token"),
        "answer": Secret('{"access_token": "the-token"}'),
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
    A redeemer with a claim in hand.

    Attributes:
        asked: The arguments of each exchange.
        told: What `on_connected` was given.
    """

    def __init__(self, *, spool: Path | None = None, hook: bool = True) -> None:
        self.clock = Clock()
        self.storage = TroubledStorage(MemoryStorage())
        self.events: list[Event] = []
        self.asked: list[tuple[Secret, str | None, timedelta]] = []
        self.told: list[Connection] = []
        self.answer: Grant | FinchFault = a_grant()
        self.vault = Vault(
            client_id="client",
            key=Key(key_id="k1", material=Secret(new_key("k1").partition(":")[2])),
        )
        self.tickets = Tickets(vault=self.vault, secure=True)
        self.settings: Any = SimpleNamespace(
            client_id="client",
            redirect_uri="https://app.example.com/finch/callback",
            products=("company", "directory"),
            return_to="/of-the-settings",
            clock=self.clock,
            on_connected=self.told.append if hook else None,
        )
        api: Any = SimpleNamespace(exchange=self._exchange)
        events = Events(client_id="client", on_event=self.events.append)
        self.spool = Spool(spool)
        self.redeemer = Redeemer(
            settings=self.settings,
            api=api,
            vault=self.vault,
            tickets=self.tickets,
            storage=self.storage,
            keeping=Keeping(storage=self.storage, spool=self.spool, events=events),
            events=events,
        )
        now = self.clock()
        self.attempt = an_attempt(claimed_at=now, leased_until=now + timedelta(seconds=60))
        assert self.storage.claim(self.attempt) is None
        self.clock.move(timedelta(seconds=1))

    def redeem(
        self, binding: Binding | None = None, *, known: tuple[StoredConnection, ...] = ()
    ) -> Any:
        return self.redeemer.redeem(
            self.attempt, CODE, binding=binding or self.binding(), known=known, within=WITHIN
        )

    def flow(self, customer_id: str = "acme") -> LiveFlow:
        ticket = self.tickets.issue(
            customer_id=customer_id,
            return_to="/of-the-ticket",
            kind="redirect",
            at=self.clock(),
            life=timedelta(hours=1),
        )
        return LiveFlow(ticket=ticket, key=key_of(f"flow of {customer_id}"))

    def binding(self, *flows: LiveFlow, **changes: Any) -> Binding:
        given = {
            "kind": "redirect",
            "live": flows,
            "customers": frozenset({"acme", "umbrella"}),
            "names": ((key_of("ticket"), "acme"), (key_of("other"), "umbrella")),
            "flow_key": None,
            "return_to": "/of-the-binding",
        }
        return Binding(**{**given, **changes})

    @property
    def standing(self) -> Attempt | None:
        return self.storage.real.attempt(self.attempt.code_key)

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


@pytest.fixture
def desk() -> Desk:
    return Desk()


STORED = ("finch.connection.stored", logging.INFO, None, "finch-1")


@pytest.mark.parametrize(
    ("kind", "redirect_uri"),
    [("redirect", "https://app.example.com/finch/callback"), ("embedded", None)],
)
def test_finch_is_asked_once_with_what_the_flow_needs(
    desk: Desk, kind: str, redirect_uri: str | None
) -> None:
    desk.redeem(desk.binding(kind=kind))

    assert desk.asked == [(CODE, redirect_uri, WITHIN)]


def test_a_token_ends_its_flow(desk: Desk) -> None:
    older, flow = desk.flow("umbrella"), desk.flow()
    now = desk.clock()

    outcome = desk.redeem(desk.binding(older, flow))

    assert outcome == Connected(
        reference="REF-1",
        return_to="/of-the-ticket",
        request_id="finch-1",
        connection_id="connection",
        customer_id="acme",
    )
    assert desk.heard() == [STORED]
    assert desk.standing == desk.attempt.settled(
        AttemptState.STORED,
        at=now,
        flow_key=flow.key,
        bound_to=(key_of("ticket"),),
        customer_id="acme",
        connection_id="connection",
        return_to="/of-the-ticket",
        request_id="finch-1",
        notified=True,
    )
    [cookie] = outcome.cookies
    assert spent_ticket(desk, cookie) == (flow.ticket.flow_id, now + REPLAY_WINDOW)


def spent_ticket(desk: Desk, cookie: Any) -> tuple[str, Any]:
    [ticket] = desk.tickets.found([(cookie.name, cookie.value.reveal())])
    assert isinstance(ticket, Ticket)
    assert ticket.spent
    return ticket.flow_id, ticket.expires_at


def test_a_token_without_a_flow_goes_where_the_binding_says(desk: Desk) -> None:
    outcome = desk.redeem()

    assert (outcome.return_to, outcome.cookies) == ("/of-the-binding", ())
    assert desk.standing is not None
    assert (desk.standing.return_to, desk.standing.flow_key) == ("/of-the-binding", None)


@pytest.mark.parametrize("return_to", ["", None])
def test_or_else_where_the_settings_say(desk: Desk, return_to: str | None) -> None:
    assert desk.redeem(desk.binding(return_to=return_to)).return_to == "/of-the-settings"


def test_the_row_holds_all_that_finch_said_and_the_token_only_sealed(desk: Desk) -> None:
    desk.redeem()

    row = desk.connection
    assert row is not None
    assert desk.vault.open_answer(row).reveal() == '{"access_token": "the-token"}'
    assert row == StoredConnection(
        connection_id="connection",
        customer_id="acme",
        client_id="client",
        provider_id="gusto",
        products=("company", "directory"),
        client_type="sandbox",
        connection_type="provider",
        sealed=row.sealed,
        obtained_at=desk.clock(),
        attempt_id="attempt-code",
    )


@pytest.mark.parametrize(
    ("products", "said"),
    [
        (("company", "directory"), []),
        (("employer:company", "employer:directory"), []),
        (("company",), [("finch.products.fewer", logging.WARNING, None, "finch-1")]),
    ],
)
def test_fewer_products_than_were_asked_for_are_told_of(
    desk: Desk, products: tuple[str, ...], said: list[object]
) -> None:
    desk.answer = a_grant(products=products)

    assert isinstance(desk.redeem(), Connected)

    assert desk.heard() == [STORED, *said]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("other", []),
        ("connection", [("finch.token.replaced", logging.INFO, None, "finch-1")]),
    ],
)
def test_a_token_in_the_place_of_an_older_one_is_told_of(
    desk: Desk, known: str, said: list[object]
) -> None:
    before = a_connection(known, obtained_at=desk.clock() - timedelta(days=1))

    desk.redeem(known=(before,))

    assert desk.heard() == [STORED, *said]
    assert desk.connection is not None
    assert desk.connection.obtained_at == desk.clock()


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=2)])
def test_a_clock_that_is_behind_does_not_bury_the_new_token(desk: Desk, ahead: timedelta) -> None:
    older = a_connection("other", obtained_at=desk.clock() - timedelta(days=1))
    newest = a_connection("another", obtained_at=desk.clock() + ahead)

    desk.redeem(known=(older, newest))

    assert desk.connection is not None
    assert desk.connection.obtained_at == newest.obtained_at + timedelta(microseconds=1)
    assert desk.heard() == [("finch.clock.behind", logging.WARNING, None, None), STORED]
    assert desk.standing is not None
    assert desk.standing.settled_at == desk.clock()


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ("unreachable", logging.WARNING),
        ("throttled", logging.WARNING),
        ("client_rejected", logging.CRITICAL),
    ],
)
def test_an_unspent_code_is_free_again(desk: Desk, reason: str, level: int) -> None:
    desk.answer = FinchUnavailable(reason, request_id="finch-2", retry_after=7)

    failed = desk.redeem()

    assert failed == Failed(
        reference="REF-1",
        return_to="/of-the-binding",
        request_id="finch-2",
        reason=reason,
        retry_after=7,
    )
    assert desk.standing is None
    assert desk.redeemer.released(desk.attempt) == failed
    assert desk.redeemer.released(an_attempt("other")) is None
    assert desk.heard() == [("finch.exchange.finch_unavailable", level, reason, "finch-2")]


def test_it_is_remembered_before_it_is_free(desk: Desk) -> None:
    desk.answer = FinchUnavailable("unreachable")
    seen: list[Failed | None] = []
    desk.storage.first("release", lambda: seen.append(desk.redeemer.released(desk.attempt)))

    failed = desk.redeem()

    assert seen == [failed]


def test_a_claim_that_cannot_be_released_is_told_of(desk: Desk) -> None:
    desk.answer = FinchUnavailable("unreachable")
    desk.storage.down("release")

    assert isinstance(desk.redeem(), Failed)

    assert [each[:2] for each in desk.heard()] == [
        ("finch.claim.not_released", logging.ERROR),
        ("finch.exchange.finch_unavailable", logging.WARNING),
    ]


def test_a_thousand_released_attempts_are_remembered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redeem_module, "RELEASED_LIMIT", 2)
    desk.answer = FinchUnavailable("unreachable")
    attempts = [an_attempt(str(number)) for number in range(3)]

    def remembered() -> list[bool]:
        return [desk.redeemer.released(each) is not None for each in attempts]

    found = []
    for each in attempts:
        desk.attempt = each
        desk.redeem()
        found.append(remembered())

    assert found == [[True, False, False], [True, True, False], [False, False, True]]


@pytest.mark.parametrize(
    ("fault", "state", "reason", "level"),
    [
        (CodeRejected, AttemptState.FAILED, "code_rejected", logging.WARNING),
        (BadResponse, AttemptState.FAILED, "bad_response", logging.ERROR),
        (ExchangeAmbiguous, AttemptState.AMBIGUOUS, "ambiguous", logging.ERROR),
    ],
)
def test_a_spent_code_has_its_end(
    desk: Desk, fault: type[FinchFault], state: AttemptState, reason: str, level: int
) -> None:
    desk.answer = fault("said_so", request_id="finch-2")

    assert desk.redeem() == Failed(
        reference="REF-1", return_to="/of-the-binding", request_id="finch-2", reason=reason
    )

    assert desk.standing == desk.attempt.settled(
        state,
        at=desk.clock(),
        reason=reason,
        return_to="/of-the-binding",
        request_id="finch-2",
    )
    assert desk.heard() == [(f"finch.exchange.{reason}", level, "said_so", "finch-2")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"customer_id": "initech"}, "other_customer"),
        ({"customer_id": None}, "incomplete"),
        ({"connection_id": None}, "incomplete"),
    ],
)
@pytest.mark.parametrize("hook", [True, False])
def test_a_token_of_nobody_waits_for_an_operator(
    changes: dict[str, str | None], reason: str, hook: bool
) -> None:
    desk = Desk(hook=hook)
    desk.answer = a_grant(**changes)

    assert desk.redeem() == Invalid(
        reference="REF-1",
        return_to="/of-the-binding",
        request_id="finch-1",
        reason="customer_unconfirmed",
    )

    standing = desk.standing
    assert standing is not None
    assert standing.sealed is not None
    opened = desk.vault.open(standing.sealed.text, purpose="quarantine", context=("attempt-code",))
    assert opened.reveal() == '{"access_token": "the-token"}'
    assert standing == desk.attempt.settled(
        AttemptState.QUARANTINED,
        at=desk.clock(),
        reason=reason,
        connection_id=desk.answer.connection_id,
        return_to="/of-the-binding",
        request_id="finch-1",
        sealed=standing.sealed,
        notified=not hook,
    )
    assert desk.heard() == [("finch.token.quarantined", logging.CRITICAL, reason, "finch-1")]
    assert desk.told == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE_PAUSES", (0.0,))


@pytest.mark.usefixtures("hasty")
def test_a_spooled_token_ends_its_flow_as_well(tmp_path: Path) -> None:
    desk = Desk(spool=tmp_path / "spool")
    desk.storage.down("settle")
    flow = desk.flow()

    outcome = desk.redeem(desk.binding(flow))

    assert outcome == Finishing(
        reference="REF-1", return_to="/of-the-ticket", request_id="finch-1", spooled=True
    )
    [cookie] = outcome.cookies
    assert spent_ticket(desk, cookie)[0] == flow.ticket.flow_id
    assert desk.told == []
    [entry] = desk.spool.entries()
    assert (entry.attempt.notified, entry.attempt.state) == (False, AttemptState.STORED)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("customer_id", ["acme", "initech"])
def test_a_lost_token_is_said_to_be_lost(desk: Desk, customer_id: str) -> None:
    desk.storage.down("settle")
    desk.answer = a_grant(customer_id=customer_id)

    assert desk.redeem() == Failed(
        reference="REF-1",
        return_to="/of-the-binding",
        request_id="finch-1",
        reason="token_lost",
    )

    assert ("finch.token.lost", logging.CRITICAL, None, "finch-1") in desk.heard()


def test_the_hook_is_given_the_connection_as_it_stands(desk: Desk) -> None:
    desk.redeem()

    [connection] = desk.told
    assert (connection.connection_id, connection.customer_id) == ("connection", "acme")
    assert connection.access_token.reveal() == "the-token"


def owed(desk: Desk, **changes: Any) -> Attempt:
    """An attempt whose hook is still to be run, with its connection in the storage."""
    desk.redeem()
    desk.told.clear()
    assert desk.standing is not None
    values = {"notified": False, **changes}
    return desk.standing.settled(AttemptState.STORED, at=desk.standing.settled_at, **values)


def test_a_hook_that_is_owed_is_run_and_noted(desk: Desk) -> None:
    attempt = owed(desk)
    desk.clock.move(timedelta(minutes=5))

    assert desk.redeemer.notify(attempt) is True

    assert [each.connection_id for each in desk.told] == ["connection"]
    assert desk.standing is not None
    assert (desk.standing.notified, desk.standing.settled_at) == (True, attempt.settled_at)


@pytest.mark.parametrize("changes", [{"notified": True}, {"connection_id": None}])
def test_a_hook_that_is_not_owed_is_not_run(desk: Desk, changes: dict[str, Any]) -> None:
    attempt = owed(desk, **changes)

    assert desk.redeemer.notify(attempt) is False

    assert desk.told == []


def test_without_a_hook_nothing_is_owed() -> None:
    desk = Desk(hook=False)

    assert desk.redeemer.notify(owed(desk)) is False

    assert desk.heard() == [STORED]


def test_a_connection_that_is_gone_is_told_of_to_nobody_and_is_not_owed(desk: Desk) -> None:
    attempt = owed(desk)
    desk.storage.real.delete("connection")

    assert desk.redeemer.notify(attempt) is False

    assert desk.told == []
    assert desk.standing is not None
    assert desk.standing.notified is True


def _raise(connection: Connection) -> None:
    raise ZeroDivisionError("the application's own")


def test_a_hook_that_raises_stays_owed(desk: Desk) -> None:
    attempt = owed(desk)
    raising: Callable[[Connection], None] = _raise
    desk.settings.on_connected = raising
    desk.events.clear()

    assert desk.redeemer.notify(attempt) is False

    assert desk.heard() == [("finch.hook.failed", logging.ERROR, "on_connected", "finch-1")]


def test_a_hook_whose_run_cannot_be_noted_may_run_again(desk: Desk) -> None:
    attempt = owed(desk)
    desk.storage.down("settle", times=1)

    assert desk.redeemer.notify(attempt) is False
    assert desk.redeemer.notify(attempt) is True

    assert len(desk.told) == 2
