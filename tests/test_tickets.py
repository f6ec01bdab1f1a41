from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from finch_middleware.binding import SKEW, expired, of_flow
from finch_middleware.errors import UsageError
from finch_middleware.outcomes import SetCookie
from finch_middleware.tickets import (
    CUSTOMER_ID_LIMIT_BYTES,
    REPLAY_WINDOW,
    Ticket,
    Tickets,
    check_customer_id,
    flow_id_of,
)
from tests.keys import a_vault, issue, state_of

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
URI = "https://app.example.com/finch/callback"


VAULT = a_vault(key_id="k" * 32)  # the longest id that a key may have
TICKETS = Tickets(vault=VAULT, secure=True)


def a_ticket(
    number: int = 0,
    *,
    customer_id: str = "acme",
    return_to: str = "/",
    redirect_uri: str | None = URI,
) -> Ticket:
    return issue(
        customer_id=customer_id,
        return_to=return_to,
        redirect_uri=redirect_uri,
        at=NOW + timedelta(seconds=number),
        life=HOUR,
    )


def pair(cookie: SetCookie) -> tuple[str, str]:
    assert cookie.value is not None
    return cookie.name, cookie.value.reveal()


def cookies_of(issued: Sequence[Ticket], *, tickets: Tickets = TICKETS) -> list[tuple[str, str]]:
    return [pair(tickets.cookie(ticket, at=NOW)) for ticket in issued]


def ids(found: Sequence[Ticket]) -> list[str]:
    return [ticket.flow_id for ticket in found]


customer_ids = st.text(
    st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255
).filter(lambda text: len(text.encode()) <= CUSTOMER_ID_LIMIT_BYTES)


@given(
    customer_ids,
    st.sampled_from([URI, None]),
    st.integers(0, 10**15).map(lambda passed: NOW + timedelta(microseconds=passed)),
    st.booleans(),
    st.booleans(),
)
def test_a_ticket_comes_back_from_its_cookie_as_it_was_issued(
    customer_id: str, redirect_uri: str | None, at: datetime, spent: bool, invited: bool
) -> None:
    issued = issue(
        customer_id=customer_id,
        return_to="/settings?tab=1#a",
        redirect_uri=redirect_uri,
        at=at,
        life=HOUR,
        invited=invited,
    )
    assert issued.invited is invited
    issued = dataclasses.replace(issued, spent=spent)

    (found,) = TICKETS.found([pair(TICKETS.cookie(issued, at=at))])

    assert found == issued
    assert found.kind == ("redirect" if redirect_uri else "embedded")


def test_no_two_flows_have_an_id_or_a_state_in_common() -> None:
    issued = [a_ticket() for _ in range(1000)]

    assert len({ticket.flow_id for ticket in issued}) == 1000
    assert len({state_of(ticket).reveal() for ticket in issued}) == 1000
    assert all(len(state_of(ticket).reveal()) == 22 for ticket in issued)
    assert all(len(ticket.flow_id) == 22 for ticket in issued)


@pytest.mark.parametrize(
    ("secure", "prefix"), [(True, "__Host-finch-"), (False, "finch-")], ids=["https", "loopback"]
)
def test_a_cookie_is_named_after_its_flow_and_outlives_it(secure: bool, prefix: str) -> None:
    tickets = Tickets(vault=VAULT, secure=secure)
    ticket = a_ticket()

    cookie = tickets.cookie(ticket, at=NOW)

    assert cookie.name == prefix + ticket.flow_id[:8]
    assert (cookie.max_age, cookie.secure) == (3600 + 600, secure)


def test_a_cookie_that_is_over_still_has_a_life_that_browsers_take() -> None:
    assert TICKETS.cookie(a_ticket(), at=NOW + 2 * HOUR).max_age == 1


def test_neither_a_ticket_nor_its_cookie_shows_a_secret() -> None:
    ticket = a_ticket()
    cookie = TICKETS.cookie(ticket, at=NOW)

    shown = repr(ticket) + repr(cookie)

    state = state_of(ticket).reveal()
    assert state not in shown + VAULT.open(pair(cookie)[1], purpose="ticket")
    assert pair(cookie)[1] not in shown


def test_a_spent_ticket_recognises_a_reload_for_the_replay_window() -> None:
    ticket, later = a_ticket(), NOW + timedelta(minutes=30)

    cookie = TICKETS.spent(ticket, at=later)

    (found,) = TICKETS.found([pair(cookie)])
    assert cookie.max_age == REPLAY_WINDOW.total_seconds()
    (name, value), live = pair(cookie), pair(TICKETS.cookie(ticket, at=NOW))
    assert (name, len(value)) == (live[0], len(live[1]))
    assert found.spent
    assert not expired(found, at=later + REPLAY_WINDOW)
    assert expired(found, at=later + REPLAY_WINDOW + SKEW + timedelta(microseconds=1))


@pytest.mark.parametrize("spent_first", [True, False])
def test_a_spent_ticket_outranks_its_live_copy(spent_first: bool) -> None:
    ticket = a_ticket()
    pairs = [pair(TICKETS.spent(ticket, at=NOW)), pair(TICKETS.cookie(ticket, at=NOW))]

    (found,) = TICKETS.found(pairs if spent_first else pairs[::-1])

    assert found.spent


@given(st.permutations(range(8)))
def test_the_newest_five_are_found_the_newest_first(order: list[int]) -> None:
    issued = [a_ticket(number) for number in range(8)]

    found = TICKETS.found(cookies_of([issued[number] for number in order]))

    assert ids(found) == ids(issued[:2:-1])


def test_an_expired_ticket_is_still_found() -> None:
    long_ago = issue(
        customer_id="acme", return_to="/", redirect_uri=URI, at=NOW - 9 * HOUR, life=HOUR
    )

    assert ids(TICKETS.found(cookies_of([long_ago]))) == [long_ago.flow_id]


@pytest.mark.parametrize(
    "other",
    [
        Tickets(vault=a_vault(), secure=True),
        Tickets(vault=a_vault("other", "k" * 32), secure=True),
        Tickets(vault=VAULT, secure=False),
    ],
    ids=["another key", "another client", "the loopback's"],
)
def test_a_ticket_of_another_configuration_is_passed_over(other: Tickets) -> None:
    assert TICKETS.found(cookies_of([a_ticket()], tickets=other)) == []


def test_a_value_that_was_sealed_for_another_purpose_is_no_ticket() -> None:
    parts = ["s" * 22, "a", "/", URI, "f" * 13, "e10", "l"]
    sealed = VAULT.seal("\x00".join(parts), purpose="canary")
    genuine = VAULT.seal("\x00".join(parts), purpose="ticket")
    of_another_version = VAULT.seal("\x00".join([*parts, "new"]), purpose="ticket")

    for value in (sealed, of_another_version):
        assert TICKETS.found([("__Host-finch-abcdefgh", value)]) == []
    assert len(TICKETS.found([("__Host-finch-abcdefgh", genuine)])) == 1


@pytest.mark.parametrize(
    ("late", "over"),
    [
        (timedelta(0), False),
        (SKEW, False),
        (SKEW + timedelta(microseconds=1), True),
        (-HOUR, False),
    ],
    ids=str,
)
def test_expiry_allows_for_the_skew_of_two_clocks(late: timedelta, over: bool) -> None:
    ticket = a_ticket()

    assert expired(ticket, at=ticket.expires_at + late) is over


def test_a_state_finds_its_ticket_and_no_other() -> None:
    issued = [a_ticket(number) for number in range(5)]

    flow_ids = [flow_id_of(state_of(ticket).reveal()) for ticket in issued]
    assert [of_flow(issued, each) for each in flow_ids] == issued
    for other in ("A" * 22, "", flow_ids[0][:21]):
        assert of_flow(issued, other) is None
    assert of_flow([], flow_ids[0]) is None


@pytest.mark.parametrize("place", range(5))
def test_a_state_is_compared_with_every_ticket_in_constant_time(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = [a_ticket(number) for number in range(5)]
    met: list[str] = []
    genuine: Callable[[str, str], bool] = hmac.compare_digest

    def observed(one: str, other: str) -> bool:
        met.append(one)
        return genuine(one, other)

    monkeypatch.setattr(hmac, "compare_digest", observed)

    of_flow(issued, issued[place].flow_id)

    assert met == [ticket.flow_id for ticket in issued]


LONGEST = {
    "letters": "a" * 255,
    "emoji": "\U0001f600" * 63 + "abc",
    "line separators": "\u2028" * 85,
}


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("customer_id", LONGEST.values(), ids=LONGEST)
def test_the_largest_ticket_comes_back_and_leaves_room_in_two_kibibytes(
    customer_id: str, secure: bool
) -> None:
    tickets = Tickets(vault=VAULT, secure=secure)
    ticket = a_ticket(
        customer_id=customer_id,
        return_to="/" + "a" * 254,
        redirect_uri="https://app.example.com/".ljust(512, "u"),
    )

    name, value = pair(tickets.spent(ticket, at=NOW))

    assert len(customer_id.encode()) == 255
    assert value.isascii()
    assert len(f"{name}={value}") <= 1600
    assert tickets.found([(name, value)])[0].customer_id == customer_id


@pytest.mark.parametrize(
    "customer_id",
    ["", "a" * 256, "\U0001f600" * 64, "a\x00b", "a\nb", "\x7f", "\x85", "\ud800", None, 5, b"a"],
    ids=ascii,
)
def test_a_customer_id_that_no_ticket_can_hold_is_refused(customer_id: str) -> None:
    with pytest.raises(UsageError):
        check_customer_id(customer_id)


def test_a_refusal_does_not_repeat_the_customer_id() -> None:
    with pytest.raises(UsageError) as refusal:
        check_customer_id("canary\x00")

    assert "canary" not in str(refusal.value)


def test_a_value_that_is_too_short_for_a_ticket_is_not_opened() -> None:
    issued = a_ticket()
    short = [(f"__Host-finch-{number:08}", "x" * 99) for number in range(5)]

    assert ids(TICKETS.found([*short, *cookies_of([issued])])) == [issued.flow_id]
