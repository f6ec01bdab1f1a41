"""How a callback ends without an exchange: the outcome, its report and its claim."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from finch_middleware import Customer, Event, FinchConnect, exchange
from finch_middleware.attempts import LEASE, Attempt
from finch_middleware.callback import RETRY_AFTER_SECONDS
from finch_middleware.crypto.keys import new_key, wrapped_key
from finch_middleware.errors import SchemaMismatch
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.outcomes import (
    Connected,
    Declined,
    Failed,
    Finishing,
    Invalid,
    Outcome,
    Repeated,
)
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.web.request import CallbackRequest
from tests.faulty_storage import FaultyStorage
from tests.threats.desk import begun, component

CUSTOMERS = frozenset({"beta", "acme"})
CODE = CallbackRequest(query_string="code=the-code")


class Remembering(MemoryStorage):
    """
    A storage that records claims and then refuses them: its tables do not fit.

    Attributes:
        claims: Every attempt that was to be claimed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[Attempt] = []

    def claim(self, attempt: Attempt) -> Attempt | None:
        self.claims.append(attempt)
        raise SchemaMismatch("run create-tables")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def connect(events: list[Event], clock: Clock) -> Callable[..., FinchConnect]:
    """Makes the component of an application that opens Connect with its own code."""

    def connect(**changes: Any) -> FinchConnect:
        options: dict[str, Any] = {
            "client_id": "client",
            "client_secret": "secret",
            "redirect_uri": "https://app.example.com/finch/callback",
            "products": ["company"],
            "storage": MemoryStorage(),
            "spool": None,
            "key": new_key("k1"),
            "opened_by": "application",
            "return_to": "/home",
            "clock": clock,
            "on_event": events.append,
        }
        return FinchConnect(**{**options, **changes})

    return connect


@pytest.fixture
def finish(connect: Callable[..., FinchConnect]) -> Callable[..., Outcome]:
    """Finishes a return to such an application."""

    def finish(request: CallbackRequest, *, signed_in: Any = CUSTOMERS, **changes: Any) -> Outcome:
        return connect(**changes).finish(request, customer_id=signed_in)

    return finish


@pytest.mark.parametrize(
    ("request_", "reason", "level"),
    [
        (CallbackRequest(method="PUT"), "method", logging.DEBUG),
        (CallbackRequest(headers={"Sec-Purpose": "prefetch"}), "prefetch", logging.DEBUG),
        (CallbackRequest(query_string="code=a&code=b"), "malformed", logging.WARNING),
        (CallbackRequest(query_string="code=a&state="), "signed_out", logging.WARNING),
    ],
    ids=["method", "prefetch", "malformed", "signed out"],
)
def test_a_refused_request_is_reported_at_the_level_of_its_reason(
    finish: Callable[..., Outcome],
    events: list[Event],
    request_: CallbackRequest,
    reason: str,
    level: int,
) -> None:
    outcome = finish(request_, signed_in=None)

    [event] = events
    assert outcome == Invalid(reference=outcome.reference, return_to="/home", reason=reason)
    assert (event.name, event.level, event.reason) == ("finch.callback.rejected", level, reason)
    assert event.reference == outcome.reference
    assert event.elapsed_ms is not None
    assert 0 <= event.elapsed_ms < 60_000


@pytest.mark.parametrize(
    ("query", "reason"),
    [("error=access_denied", "access_denied"), ("", "closed"), ("error=x", "error")],
)
def test_a_decline_has_its_reason_and_leads_to_return_to(
    finish: Callable[..., Outcome], events: list[Event], query: str, reason: str
) -> None:
    outcome = finish(CallbackRequest(query_string=query))

    [event] = events
    assert outcome == Declined(reference=event.reference or "", return_to="/home", reason=reason)
    assert (event.name, event.level) == ("finch.callback.declined", logging.INFO)
    assert event.reason == reason


class NoKeys:
    """A key service that is unavailable."""

    def wrap(self, key: bytes) -> bytes:
        return key + b"wrapped"

    def unwrap(self, wrapped: bytes) -> bytes:
        raise TimeoutError


def no_storage(folder: Path) -> dict[str, Any]:
    storage = FaultyStorage(MemoryStorage())
    storage.down("claim")
    return {"storage": storage}


def no_spool(folder: Path) -> dict[str, Any]:
    (folder / "file").touch()
    return {"spool": folder / "file" / "spool"}


def no_key(folder: Path) -> dict[str, Any]:
    service = NoKeys()
    return {"key": wrapped_key("k1", provider=service), "key_provider": service}


@pytest.mark.parametrize(
    ("options", "page", "reason"),
    [
        (no_storage, "storage", "unavailable"),
        (lambda folder: {"storage": Remembering()}, "storage", "schema_mismatch"),
        (no_spool, "spool", "unwritable"),
        (no_key, "key", "TimeoutError"),
    ],
    ids=["storage", "tables", "spool", "key"],
)
def test_what_is_unavailable_is_named_and_may_be_asked_again_soon(
    finish: Callable[..., Outcome],
    events: list[Event],
    tmp_path: Path,
    options: Callable[[Path], dict[str, Any]],
    page: str,
    reason: str,
) -> None:
    outcome = finish(CODE, **options(tmp_path))

    [event] = events
    assert outcome == Failed(
        reference=event.reference or "",
        return_to="/home",
        reason=f"{page}_unavailable",
        retry_after=RETRY_AFTER_SECONDS,
    )
    assert (event.name, event.level) == (f"finch.{page}.unavailable", logging.ERROR)
    assert event.reason == reason


def test_a_key_that_is_unavailable_prevents_the_claim(finish: Callable[..., Outcome]) -> None:
    storage, key = Remembering(), wrapped_key("k1", provider=NoKeys())

    finish(CODE, storage=storage, key=key, key_provider=NoKeys())

    assert storage.claims == []


def test_a_claim_states_the_customers_and_the_lease(
    finish: Callable[..., Outcome], clock: Clock
) -> None:
    storage = Remembering()

    outcomes = [finish(CODE, storage=storage) for _ in range(2)]

    first, second = storage.claims
    assert first.client_id == "client"
    assert first.customer_ids == ("acme", "beta")
    assert len(first.bound_to) == 2
    assert first.flow_hash is None
    assert (first.claimed_at, first.leased_until) == (clock(), clock() + LEASE)
    assert timedelta(seconds=60) == LEASE
    assert [each.reference for each in storage.claims] == [each.reference for each in outcomes]
    assert first.code_hash == second.code_hash
    assert first.attempt_id != second.attempt_id
    assert len(first.attempt_id) == 32


def opened_flow(finch: FinchConnect, return_to: str) -> tuple[str, str]:
    """The state and the cookie of a flow of acme's."""
    session = ConnectSession(
        session_id="s", connect_url="https://connect.tryfinch.com/authorize?session=s"
    )
    opened = finch.begin(
        customer_id="acme", customer_name="Acme Inc.", return_to=return_to, session=session
    )
    state = parse_qs(urlsplit(opened.headers["Location"]).query)["state"][0]
    return state, opened.headers["Set-Cookie"].partition(";")[0]


def test_a_claim_by_a_state_takes_its_flow_and_a_failure_leads_to_its_return_to(
    connect: Callable[..., FinchConnect], clock: Clock
) -> None:
    storage = Remembering()
    finch = connect(storage=storage, opened_by="begin")
    state, cookie = opened_flow(finch, "/settings")
    clock.move(timedelta(seconds=1))
    cookies = {"Cookie": f"{cookie}; {opened_flow(finch, '/newer')[1]}"}

    away = finch.finish(CallbackRequest(query_string=f"code=c&state={state}", headers=cookies))
    refused = finch.finish(CallbackRequest(query_string="code=a&code=b", headers=cookies))

    [claim] = storage.claims
    assert claim.flow_hash is not None
    assert claim.bound_to == (claim.flow_hash,)
    assert isinstance(away, Failed)
    assert (away.return_to, refused.return_to) == ("/settings", "/newer")


@pytest.mark.parametrize(
    ("options", "login", "ended"),
    [
        ({}, {}, Invalid),
        ({}, {"customer_id": "acme"}, Failed),
        ({"customer_of": lambda request: Customer(id="acme", name="Acme Inc.")}, {}, Failed),
    ],
    ids=["no login", "the view's", "customer_of"],
)
def test_a_cookie_behind_a_comma_counts_with_a_login_only(
    connect: Callable[..., FinchConnect],
    options: dict[str, Any],
    login: dict[str, Any],
    ended: type[Outcome],
) -> None:
    finch = connect(storage=Remembering(), opened_by="begin", **options)
    state, cookie = opened_flow(finch, "/settings")
    headers = {"Cookie": f"other=1,{cookie}"}
    callback = CallbackRequest(query_string=f"code=c&state={state}", headers=headers)

    assert isinstance(finch.finish(callback, **login), ended)


def test_a_claim_that_lands_after_its_request_gave_up_is_released_by_the_next(
    connect: Callable[..., FinchConnect],
) -> None:
    storage = FaultyStorage(MemoryStorage())
    finch = connect(storage=storage, api_url="http://127.0.0.1:1")
    storage.cut("claim")
    storage.down("attempt", times=1)

    reasons = [finch.finish(CODE, customer_id=CUSTOMERS) for _ in range(2)]

    # Nothing listens there: the second claimed the code anew, and got as far as to ask Finch.
    assert [getattr(each, "reason", None) for each in reasons] == [
        "storage_unavailable",
        "unreachable",
    ]


@pytest.mark.parametrize("customer_id", ["acme", "umbrella"])
def test_a_spooled_token_has_the_same_request_id_on_every_reload(
    fake: FakeFinch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, customer_id: str
) -> None:
    monkeypatch.setattr(exchange, "SETTLE_PAUSES", (0.0, 0.0, 0.0))
    storage = FaultyStorage(MemoryStorage())
    finch = component(fake, storage=storage, spool=tmp_path / "spool")
    code = fake.issue_code(customer_id=customer_id, redirect_uri="http://localhost/finch/callback")
    held = begun(finch, fake, return_to="/settings")
    query = f"code={code}&state={held.state}"
    request = CallbackRequest(query_string=query, headers={"Cookie": held.cookie})
    storage.down("settle")

    first, again = finch.finish(request), finch.finish(request)
    storage.heal()
    later = finch.finish(request)

    # Where Finch named another customer than the flow's, the token waits for an operator.
    before, after = (Finishing, Connected) if customer_id == "acme" else (Invalid, Invalid)
    repeated = again.first if isinstance(again, Repeated) else again
    assert isinstance(first, before)
    assert repeated == first
    assert isinstance(later, Repeated)
    assert isinstance(later.first, after)
    assert {each.request_id for each in (first, repeated, later.first)} == {first.request_id}
    assert first.request_id is not None
    assert first.return_to == "/settings"
