"""The cookies of several flows in one browser, and the room that they may take."""

from __future__ import annotations

import pytest

from finch_middleware.crypto.vault import Vault
from finch_middleware.tickets import (
    Ticket,
    Tickets,
)
from tests.keys import a_vault
from tests.test_tickets import NOW, TICKETS, URI, a_ticket, cookies_of, ids, pair


def begun(browser: dict[str, str], ticket: Ticket, *, tickets: Tickets = TICKETS) -> None:
    """What `begin` does to the browser's cookies."""
    new = tickets.cookie(ticket, at=NOW)
    for cookie in tickets.surplus(list(browser.items()), new=new):
        assert (cookie.value, cookie.max_age, cookie.secure) == (None, 0, True)
        del browser[cookie.name]
    name, value = pair(new)
    browser[name] = value


def size_of(browser: dict[str, str]) -> int:
    return len("; ".join(f"{name}={value}" for name, value in browser.items()))


@pytest.mark.parametrize("flows", [1, 2, 5, 50])
def test_the_newest_five_flows_live_in_one_browser(flows: int) -> None:
    browser = {"session": "theirs", "__Host-finch-notours": "theirs", "__Host-session": "theirs"}
    issued = [a_ticket(number) for number in range(flows)]

    for ticket in issued:
        begun(browser, ticket)

    assert ids(TICKETS.found(browser.items())) == ids(issued[::-1][:5])
    assert {"session", "__Host-session"} <= set(browser)


UUID = "d7b6f0de-9f9d-4a84-9c1e-6f1f5b1f7f5e"


HOST = "https://payroll-integrations.example.com"


@pytest.mark.parametrize(
    ("customer_id", "return_to", "redirect_uri", "kept"),
    [
        ("acme", "/", URI, 5),
        (UUID, f"/companies/{UUID}/settings/payroll?tab=finch", f"{HOST}/finch/callback", 5),
        ("a" * 64, "/".ljust(64, "r"), f"{HOST}/".ljust(64, "u"), 5),
        ("a" * 64, "/".ljust(120, "r"), f"{HOST}/".ljust(64, "u"), 4),
        ("a" * 255, "/".ljust(255, "r"), URI, 2),
        ("a" * 255, "/".ljust(255, "r"), f"{HOST}/".ljust(512, "u"), 1),
    ],
    ids=["short", "usual", "long", "longer", "texts at the limit", "all at the limit"],
)
def test_no_number_of_flows_takes_more_than_two_kibibytes(
    customer_id: str, return_to: str, redirect_uri: str, kept: int
) -> None:
    tickets = Tickets(vault=a_vault(), secure=True)
    values = {"customer_id": customer_id, "return_to": return_to, "redirect_uri": redirect_uri}
    issued = [a_ticket(number, **values) for number in range(20)]
    browser: dict[str, str] = {}

    for ticket in issued:
        begun(browser, ticket, tickets=tickets)
        assert size_of(browser) <= 2048

    assert ids(tickets.found(browser.items())) == ids(issued[::-1][:kept])


def test_the_flow_of_another_client_survives_as_long_as_there_is_room() -> None:
    other = Tickets(vault=a_vault("other"), secure=True)
    theirs = a_ticket()
    browser = dict(cookies_of([theirs], tickets=other))

    for number in range(4):
        begun(browser, a_ticket(number))
    assert ids(other.found(browser.items())) == [theirs.flow_id]

    begun(browser, a_ticket(5))
    assert other.found(browser.items()) == []
    assert len(browser) == 5


def test_a_copy_under_another_name_is_removed_where_there_is_no_room_for_it() -> None:
    issued = [a_ticket(number) for number in range(4)]
    pairs = [*cookies_of(issued), ("__Host-finch-abcdefgh", cookies_of(issued)[0][1])]

    removed = TICKETS.surplus(pairs, new=NEW)

    assert [cookie.name for cookie in removed] == ["__Host-finch-abcdefgh"]


def test_only_a_copy_under_another_name_is_not_taken_for_the_cookie_itself() -> None:
    value = cookies_of([a_ticket()])[0][1]

    assert TICKETS.surplus([("__Host-finch-abcdefgh", value)], new=NEW) == []


NEW = TICKETS.cookie(a_ticket(), at=NOW)


ROOM = 2048 - len("{}={}; ".format(*pair(NEW)))


def filled(name: str, *, bytes_: int) -> tuple[str, str]:
    """A cookie of that name that takes so many bytes in the header, with its separator."""
    return name, "x" * (bytes_ - len(f"{name}=; "))


@pytest.mark.parametrize(("more", "gone"), [(0, 0), (1, 1)], ids=["just fits", "too much"])
def test_cookies_may_fill_the_room_beside_a_new_one_to_the_byte(more: int, gone: int) -> None:
    pairs = [
        filled("__Host-finch-abcdefgh", bytes_=ROOM - 500),
        filled("__Host-finch-ABCDEFGH", bytes_=500 + more),
    ]

    assert len(TICKETS.surplus(pairs, new=NEW)) == gone


def test_every_cookie_of_one_name_takes_its_room() -> None:
    pairs = [filled("__Host-finch-abcdefgh", bytes_=ROOM // 3) for _ in range(4)]

    assert TICKETS.surplus(pairs[:3], new=NEW) == []
    assert len(TICKETS.surplus(pairs, new=NEW)) == 1


def test_neighbours_with_our_prefix_and_another_form_are_left_alone() -> None:
    pairs = [
        (f"__Host-finch-{end}", "x" * 2048)
        for end in ("", "abcdefg", "abcdefghi", "abc defg", "é" * 8)
    ]

    assert TICKETS.surplus(pairs, new=NEW) == []


def test_a_header_full_of_short_rubbish_costs_no_decryption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(Vault, "open", lambda self, sealed, **place: opened.append(sealed))

    TICKETS.found([("__Host-finch-abcdefgh", "fm1." + "k" * 32 + ".AAAA")] * 5000)

    assert opened == []
