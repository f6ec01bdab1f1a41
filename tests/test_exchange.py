"""From a claimed attempt to a settled one, step by step, for a given response of Finch."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware import Connected, Failed, Finishing, Invalid, exchange
from finch_middleware.attempts import AttemptState
from finch_middleware.errors import (
    BadResponse,
    CodeRejected,
    ExchangeAmbiguous,
    FinchFault,
    FinchUnavailable,
)
from finch_middleware.records import StoredConnection, history_line
from finch_middleware.testing.sample_records import a_connection, key_of
from tests.exchanging import CODE, STORED, WITHIN, Desk, a_grant


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("redirect_uri", ["https://app.example.com/finch/callback", None])
def test_finch_is_asked_once_with_what_the_flow_needs(desk: Desk, redirect_uri: str | None) -> None:
    desk.redeem(redirect_uri=redirect_uri)

    assert desk.asked == [(CODE, redirect_uri, WITHIN)]


@pytest.mark.parametrize("hook", [True, False])
def test_a_token_ends_its_flow(hook: bool) -> None:
    desk = Desk(hook=hook)
    now = desk.clock()

    outcome = desk.redeem(flow_hash=key_of("flow"))

    assert outcome == Connected(
        reference="REF-1",
        return_to="/of-the-ticket",
        connection_id="connection",
        customer_id="acme",
    )
    assert outcome.request_id == "finch-1"
    assert desk.heard() == [STORED]
    assert desk.standing == desk.attempt.settled(
        AttemptState.STORED,
        at=now,
        flow_hash=key_of("flow"),
        bound_to=(key_of("ticket"),),
        customer_id="acme",
        connection_id="connection",
        return_to="/of-the-ticket",
        request_id="finch-1",
        notified=True,
    )


def test_a_token_without_a_flow_returns_to_the_place_of_the_binding(desk: Desk) -> None:
    outcome = desk.redeem()

    assert outcome.return_to == "/of-the-binding"
    assert desk.standing is not None
    assert (desk.standing.return_to, desk.standing.flow_hash) == ("/of-the-binding", None)


def test_the_row_holds_all_that_finch_returned_and_the_token_only_sealed(desk: Desk) -> None:
    desk.redeem()

    row = desk.connection
    assert row is not None
    assert desk.vault.open_grant(row).reveal() == '{"access_token": "the-token"}'
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
        history=history_line(
            desk.clock(),
            "connected",
            customer_id="acme",
            provider_id="gusto",
            products=["company", "directory"],
            attempt_id="attempt-code",
            reference="REF-1",
            key_id="k1",
        ),
    )


@pytest.mark.parametrize(
    ("products", "said"),
    [
        (("company", "directory"), []),
        (("employer:company", "employer:directory"), []),
        (("company",), [("finch.products.fewer", logging.WARNING, None, "finch-1")]),
    ],
)
def test_fewer_products_than_were_asked_for_are_reported(
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
def test_a_token_that_replaces_an_older_one_is_reported(
    desk: Desk, known: str, said: list[object]
) -> None:
    before = a_connection(known, obtained_at=desk.clock() - timedelta(days=1))

    desk.redeem(known=(before,))

    assert desk.heard() == [STORED, *said]
    assert desk.connection is not None
    assert desk.connection.obtained_at == desk.clock()


@pytest.mark.parametrize(("known", "kind"), [("connection", Connected), ("other", Invalid)])
def test_a_grant_without_customer_renews_only_the_connection_that_is_stored(
    desk: Desk, known: str, kind: type
) -> None:
    desk.answer = a_grant(customer_id=None)

    outcome = desk.redeem(known=(a_connection("another"), a_connection(known)))

    assert isinstance(outcome, kind)
    assert [each.customer_id for each in desk.hook_calls] == (["acme"] if kind is Connected else [])


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=2)])
def test_a_clock_that_is_behind_does_not_hide_the_new_token(desk: Desk, ahead: timedelta) -> None:
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
def test_an_unspent_code_stays_claimed_until_the_race_releases_it(
    desk: Desk, reason: str, level: int
) -> None:
    desk.answer = FinchUnavailable(reason, request_id="finch-2", retry_after=7)

    with pytest.raises(FinchUnavailable):
        desk.redeem()

    assert desk.standing == desk.attempt
    assert desk.heard() == [("finch.exchange.finch_unavailable", level, reason, "finch-2")]


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

    outcome = desk.redeem()

    assert outcome == Failed(reference="REF-1", return_to="/of-the-binding", reason=reason)
    assert outcome.request_id == "finch-2"

    assert desk.standing == desk.attempt.settled(
        state,
        at=desk.clock(),
        reason=reason,
        return_to="/of-the-binding",
        request_id="finch-2",
    )
    assert desk.heard() == [(f"finch.exchange.{reason}", level, "said_so", "finch-2")]


@pytest.mark.parametrize(
    ("fault", "notified"), [(ExchangeAmbiguous, False), (CodeRejected, True), (BadResponse, True)]
)
def test_an_end_whose_report_failed_is_reported_again_if_it_is_ambiguous(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: type[FinchFault], notified: bool
) -> None:
    desk.answer = fault("reset")
    monkeypatch.setattr(desk.exchange.events, "of_attempt", lambda *_, **__: False)

    desk.redeem()

    assert desk.standing is not None
    assert desk.standing.notified is notified


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"customer_id": "initech"}, "other_customer"),
        ({"customer_id": None}, "incomplete"),
        ({"connection_id": None}, "incomplete"),
    ],
)
@pytest.mark.parametrize("hook", [True, False])
def test_a_token_of_no_expected_customer_is_quarantined(
    changes: dict[str, str | None], reason: str, hook: bool
) -> None:
    desk = Desk(hook=hook)
    desk.answer = a_grant(**changes)

    outcome = desk.redeem()

    assert outcome == Invalid(
        reference="REF-1",
        return_to="/of-the-binding",
        reason="customer_unconfirmed",
    )
    assert outcome.request_id == "finch-1"

    standing = desk.standing
    assert standing is not None
    assert desk.vault.open_grant(standing).reveal() == '{"access_token": "the-token"}'
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
    assert desk.hook_calls == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0,))


@pytest.mark.usefixtures("hasty")
def test_a_spooled_token_ends_its_flow_as_well(tmp_path: Path) -> None:
    desk = Desk(spool=tmp_path / "spool")
    desk.storage.down("settle")

    outcome = desk.redeem(flow_hash=key_of("flow"))

    assert outcome == Finishing(reference="REF-1", return_to="/of-the-ticket", spooled=True)
    assert outcome.request_id == "finch-1"
    assert desk.hook_calls == []
    [entry] = desk.spool.entries()
    assert (entry.attempt.notified, entry.attempt.state) == (False, AttemptState.STORED)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("customer_id", ["acme", "initech"])
def test_a_lost_token_is_reported_as_lost(desk: Desk, customer_id: str) -> None:
    desk.storage.down("settle")
    desk.answer = a_grant(customer_id=customer_id)

    outcome = desk.redeem()

    assert outcome == Failed(
        reference="REF-1",
        return_to="/of-the-binding",
        reason="token_lost",
    )
    assert outcome.request_id == "finch-1"

    assert ("finch.token.lost", logging.CRITICAL, None, "finch-1") in desk.heard()
