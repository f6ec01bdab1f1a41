"""Which customer a callback belongs to: the table of tickets, states and logins (T1, T4, T31)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from finch_middleware.attempts import CODES_PER_FLOW, End, places
from finch_middleware.binding import SKEW, Binder, Binding, SignedIn
from finch_middleware.config.options import FlowKind
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.errors import ReturnFault
from finch_middleware.secret import Secret
from finch_middleware.testing.clock import Clock
from finch_middleware.tickets import Ticket, Tickets
from finch_middleware.web.request import CallbackParams, CallbackRequest
from tests.keys import a_settings, a_vault, issue

HOUR = timedelta(hours=1)
BEGUN_WITH = "https://app.example.com/an-earlier/callback"
ORIGIN = "https://app.example.com"
CODE = Secret("code-1")
OTHER_FLOW = "A" * 22
HASH = KeyedHash(client_id="client", client_secret=Secret("secret"))
TICKETS = Tickets(vault=a_vault(), secure=True)
NAVIGATION = CallbackRequest()
OWN_PAGE = CallbackRequest(method="POST", headers={"Sec-Fetch-Site": "same-origin"})
OWN_FETCH = CallbackRequest(headers={"Sec-Fetch-Site": "same-origin"})


def a_ticket(
    clock: Clock, customer_id: str = "acme", *, kind: FlowKind = "redirect", spent: bool = False
) -> Ticket:
    ticket = issue(
        customer_id=customer_id,
        return_to=f"/{customer_id}",
        redirect_uri=BEGUN_WITH if kind == "redirect" else None,
        at=clock(),
        life=HOUR,
    )
    clock.move(timedelta(seconds=1))
    return dataclasses.replace(ticket, spent=spent)


def binder(clock: Clock, **changes: Any) -> Binder:
    settings = a_settings(**{"clock": clock, "return_to": "/home", **changes})
    return Binder(settings=settings, keyed_hash=HASH)


def bound(
    clock: Clock,
    returned: CallbackParams,
    tickets: Sequence[Ticket] = (),
    *,
    request: CallbackRequest = NAVIGATION,
    signed_in: SignedIn = None,
    **options: Any,
) -> Binding | str:
    """The binding, or the reason why there is none."""
    try:
        return binder(clock, **options).bind(
            request, returned, tickets=tickets, signed_in=signed_in
        )
    except ReturnFault as fault:
        return fault.reason


def the_binding(*given: Any, **named: Any) -> Binding:
    found = bound(*given, **named)
    assert isinstance(found, Binding), found
    return found


def test_a_state_binds_to_its_own_ticket_alone(clock: Clock) -> None:
    first, second = a_ticket(clock, "acme"), a_ticket(clock, "beta")

    found = the_binding(clock, CallbackParams(code=CODE, flow_id=first.flow_id), [second, first])

    flow_hash = HASH("flow", first.flow_id)
    assert found.tickets == {"acme": first}
    assert found.places == found.bound_to == (flow_hash,)
    assert found.ends == {
        "acme": End(flow_hash=flow_hash, bound_to=(flow_hash,), return_to="/acme")
    }
    assert (found.redirect_uri, found.return_to) == (BEGUN_WITH, "/acme")


@pytest.mark.parametrize("kind", ["redirect", "embedded"])
def test_the_redirect_uri_is_the_tickets_whatever_the_request_looks_like(
    clock: Clock, kind: FlowKind
) -> None:
    ticket = a_ticket(clock, kind=kind)
    returned = CallbackParams(code=CODE, flow_id=ticket.flow_id)

    found = {
        the_binding(clock, returned, [ticket], request=request, flow=configured).redirect_uri
        for request in (OWN_PAGE, OWN_FETCH)
        for configured in ("redirect", "embedded")
    }

    assert found == {BEGUN_WITH if kind == "redirect" else None}


def test_without_a_state_every_live_redirect_of_the_browser_counts(clock: Clock) -> None:
    tickets = [
        a_ticket(clock, "old"),
        a_ticket(clock, "new"),
        a_ticket(clock, "e", kind="embedded"),
    ]
    tickets.append(a_ticket(clock, "spent", spent=True))
    newest_first = tickets[::-1]

    found = the_binding(clock, CallbackParams(code=CODE), newest_first)

    assert set(found.ends) == set(found.tickets) == {"old", "new"}
    spent, new, old = (HASH("flow", each.flow_id) for each in (tickets[3], tickets[1], tickets[0]))
    assert found.bound_to == (spent, new, old)
    assert found.places == (*places(new), *places(old))
    assert len(set(found.places)) == 2 * CODES_PER_FLOW
    assert found.redirect_uri == BEGUN_WITH


def test_a_spent_ticket_recognises_a_reload_and_allows_no_new_code(clock: Clock) -> None:
    ticket = a_ticket(clock, spent=True)

    for returned in (CallbackParams(code=CODE, flow_id=ticket.flow_id), CallbackParams(code=CODE)):
        found = the_binding(clock, returned, [ticket])
        assert (found.ends, found.tickets) == ({}, {})
        assert found.bound_to == (HASH("flow", ticket.flow_id),)


def test_a_code_ends_the_newest_flow_of_its_customer(clock: Clock) -> None:
    old, other, new = a_ticket(clock, "acme"), a_ticket(clock, "beta"), a_ticket(clock, "acme")

    found = the_binding(clock, CallbackParams(code=CODE), [new, other, old])

    newest, of_beta, oldest = (HASH("flow", each.flow_id) for each in (new, other, old))
    assert found.tickets == {"acme": new, "beta": other}
    assert found.ends == {
        "acme": End(flow_hash=newest, bound_to=(newest, oldest), return_to="/acme"),
        "beta": End(flow_hash=of_beta, bound_to=(of_beta,), return_to="/beta"),
    }


NO_CODE = CallbackParams()
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("no_ticket", {"returned": CallbackParams(code=CODE)}),
    ("no_ticket", {"returned": CallbackParams(code=CODE, flow_id=OTHER_FLOW)}),
    ("unsolicited", {"returned": NO_CODE}),
    ("unsolicited", {"returned": CallbackParams(declined="error", flow_id=OTHER_FLOW)}),
    ("state_mismatch", {"returned": CallbackParams(code=CODE, foreign_state=True)}),
    (
        "state_mismatch",
        {"returned": CallbackParams(code=CODE, foreign_state=True), "tickets": ["redirect"]},
    ),
    (
        "state_mismatch",
        {"returned": CallbackParams(code=CODE, flow_id=OTHER_FLOW), "tickets": ["redirect"]},
    ),
    ("state_mismatch", {"returned": CallbackParams(flow_id=OTHER_FLOW), "tickets": ["redirect"]}),
    (
        "no_state",
        {"returned": CallbackParams(code=CODE), "tickets": ["redirect"], "require_state": True},
    ),
    ("no_state", {"returned": CallbackParams(code=CODE), "tickets": [], "require_state": True}),
    ("no_state", {"returned": CallbackParams(code=CODE), "tickets": ["embedded"]}),
    ("no_state", {"returned": NO_CODE, "tickets": ["embedded", "embedded"]}),
    (
        "signed_out",
        {"returned": CallbackParams(code=CODE), "tickets": ["redirect"], "signed_in": frozenset()},
    ),
    (
        "other_customer",
        {
            "returned": CallbackParams(code=CODE),
            "tickets": ["redirect"],
            "signed_in": frozenset({"x"}),
        },
    ),
    ("signed_out", {"returned": CallbackParams(code=CODE), "opened_by": "application"}),
    (
        "signed_out",
        {
            "returned": CallbackParams(code=CODE),
            "opened_by": "application",
            "signed_in": frozenset(),
        },
    ),
]


@pytest.mark.parametrize(("reason", "case"), REFUSED, ids=range(len(REFUSED)))
def test_a_callback_without_a_binding_is_refused(
    clock: Clock, reason: str, case: dict[str, Any]
) -> None:
    case = dict(case)
    tickets = [a_ticket(clock, kind=kind) for kind in case.pop("tickets", [])]

    assert bound(clock, case.pop("returned"), tickets, **case) == reason


#: How a ticket is met again: the embedded flow always brings its state back.
met = pytest.mark.parametrize(
    ("kind", "with_state"),
    [("redirect", True), ("redirect", False), ("embedded", True)],
    ids=["redirect", "redirect without state", "embedded"],
)


@met
def test_an_expired_ticket_binds_nothing(clock: Clock, kind: FlowKind, with_state: bool) -> None:
    ticket = a_ticket(clock, kind=kind)
    returned = CallbackParams(code=CODE, flow_id=ticket.flow_id if with_state else None)
    clock.move(HOUR + SKEW - timedelta(seconds=1))
    in_time = bound(clock, returned, [ticket], request=OWN_PAGE)

    clock.move(timedelta(seconds=1))
    late = bound(clock, returned, [ticket], request=OWN_PAGE)

    assert isinstance(in_time, Binding)
    assert late == "expired"


def test_an_expired_ticket_beside_a_live_one_is_passed_over(clock: Clock) -> None:
    old = a_ticket(clock, "old")
    clock.move(2 * HOUR)
    new = a_ticket(clock, "new")

    found = the_binding(clock, CallbackParams(code=CODE), [new, old])

    assert found.tickets == {"new": new}
    assert len(found.bound_to) == 1


@met
def test_a_login_narrows_the_tickets_to_its_own(
    clock: Clock, kind: FlowKind, with_state: bool
) -> None:
    tickets = [a_ticket(clock, "beta", kind=kind), a_ticket(clock, "acme", kind=kind)]
    returned = CallbackParams(code=CODE, flow_id=tickets[1].flow_id if with_state else None)

    def as_seen_by(*login: str) -> Binding | str:
        return bound(clock, returned, tickets, request=OWN_PAGE, signed_in=frozenset(login))

    mine, theirs, nobodys = as_seen_by("acme", "gamma"), as_seen_by("gamma"), as_seen_by()

    assert isinstance(mine, Binding)
    assert set(mine.ends) == {"acme"}
    assert (theirs, nobodys) == ("other_customer", "signed_out")


@met
@pytest.mark.parametrize(
    ("login", "customers"),
    [({"acme"}, {"acme"}), (set(), {"acme"}), ({"beta"}, "other_customer")],
    ids=["own", "signed out", "other"],
)
def test_an_invitations_ticket_needs_no_login_but_not_another_one(
    clock: Clock, kind: FlowKind, with_state: bool, login: set[str], customers: object
) -> None:
    ticket = dataclasses.replace(a_ticket(clock, "acme", kind=kind), invited=True)
    returned = CallbackParams(code=CODE, flow_id=ticket.flow_id if with_state else None)

    found = bound(clock, returned, [ticket], request=OWN_PAGE, signed_in=frozenset(login))

    assert (set(found.ends) if isinstance(found, Binding) else found) == customers


@pytest.mark.parametrize("kind", ["redirect", "embedded"])
def test_a_login_decides_alone_where_the_application_opens_connect(
    clock: Clock, kind: FlowKind
) -> None:
    found = the_binding(
        clock,
        CallbackParams(code=CODE, foreign_state=True),
        request=OWN_PAGE,
        signed_in=frozenset({"acme", "beta"}),
        opened_by="application",
        flow=kind,
    )

    hashes = {each: HASH("customer", each) for each in ("acme", "beta")}
    assert found.bound_to == tuple(hashes.values())
    assert found.ends == {
        customer: End(flow_hash=None, bound_to=(each,), return_to="/home")
        for customer, each in hashes.items()
    }
    assert found.redirect_uri == (None if kind == "embedded" else f"{ORIGIN}/finch/callback")
    assert (found.tickets, found.places, found.return_to) == ({}, (), "/home")


def test_a_login_brings_its_tickets_of_the_configured_kind_along(clock: Clock) -> None:
    tickets = [
        a_ticket(clock, "acme"),
        a_ticket(clock, "beta"),
        a_ticket(clock, "acme", kind="embedded"),
    ]

    found = the_binding(
        clock,
        CallbackParams(code=CODE),
        tickets,
        signed_in=frozenset({"acme"}),
        opened_by="application",
    )

    assert found.tickets == {"acme": tickets[0]}
    assert set(found.ends) == {"acme"}
    assert (found.redirect_uri, found.return_to) == (BEGUN_WITH, "/acme")


def test_a_state_of_a_ticket_goes_before_the_login(clock: Clock) -> None:
    ticket = a_ticket(clock, "acme")
    returned = CallbackParams(code=CODE, flow_id=ticket.flow_id)
    own: dict[str, Any] = {"opened_by": "application", "flow": "embedded"}

    found = the_binding(clock, returned, [ticket], signed_in=frozenset({"acme", "beta"}), **own)
    other = bound(clock, returned, [ticket], signed_in=frozenset({"beta"}), **own)

    assert (set(found.ends), found.redirect_uri) == ({"acme"}, BEGUN_WITH)
    assert other == "other_customer"


@pytest.mark.parametrize(
    ("given", "reason"), [(None, "other_customer"), (frozenset({"acme"}), None)], ids=str
)
def test_the_option_customer_of_is_asked_unless_a_login_is_given(
    clock: Clock, given: SignedIn, reason: str | None
) -> None:
    asked: list[CallbackRequest] = []
    ticket = a_ticket(clock, "acme")

    found = bound(
        clock,
        CallbackParams(code=CODE, flow_id=ticket.flow_id),
        [ticket],
        signed_in=given,
        customer_of=lambda request: asked.append(request) or "beta",
    )

    assert (found if isinstance(found, str) else None) == reason
    assert asked == [NAVIGATION] * (given is None)
