"""Tickets under several keys, of which a key provider does not unwrap every one."""

from __future__ import annotations

import pytest

from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import KeyUnavailable
from finch_middleware.tickets import Tickets
from tests.keys import Reversing, a_key, wrapped
from tests.test_tickets import NOW, a_ticket, cookies_of, ids


@pytest.fixture
def rotated() -> tuple[Tickets, Tickets, Reversing]:
    """Tickets before a rotation and after it; the older key is one that no longer unwraps."""
    old, new = a_key("old"), a_key("new")
    provider = Reversing(only=new)
    vault = Vault(
        client_id="client",
        key=wrapped(new),
        accepted_keys=[wrapped(old)],
        key_provider=provider,
    )
    before = Tickets(vault=Vault(client_id="client", key=old), secure=True)
    return before, Tickets(vault=vault, secure=True), provider


def test_a_stale_cookie_under_an_unavailable_key_does_not_hide_a_good_ticket(
    rotated: tuple[Tickets, Tickets, Reversing],
) -> None:
    before, after, _ = rotated
    good = a_ticket()
    stale = cookies_of([a_ticket()], tickets=before)

    found = [
        after.found([*stale, *cookies_of([good], tickets=after)]),
        after.found([*cookies_of([good], tickets=after), *stale]),
    ]

    assert [ids(each) for each in found] == [[good.flow_id]] * 2


def test_an_unavailable_key_is_an_error_where_no_ticket_opens(
    rotated: tuple[Tickets, Tickets, Reversing],
) -> None:
    before, after, _ = rotated
    stale = cookies_of([a_ticket()], tickets=before)

    with pytest.raises(KeyUnavailable) as refusal:
        after.found([("__Host-finch-rubbish1", "x" * 200), *stale])

    assert refusal.value.key_id == "old"


def test_a_cookie_under_an_unavailable_key_is_the_first_to_make_room(
    rotated: tuple[Tickets, Tickets, Reversing],
) -> None:
    before, after, _ = rotated
    stale = cookies_of([a_ticket()], tickets=before)
    issued = cookies_of([a_ticket(number) for number in range(4)], tickets=after)

    new = after.cookie(a_ticket(), at=NOW)

    removed = after.surplus([*stale, *issued], new=new)

    assert after.surplus(stale, new=new) == []
    assert [cookie.name for cookie in removed] == [stale[0][0]]


def test_strangers_cannot_have_the_key_service_asked_again_and_again(
    rotated: tuple[Tickets, Tickets, Reversing],
) -> None:
    _, after, provider = rotated
    forged = [("__Host-finch-abcdefgh", "fm1.old." + "A" * 200)] * 50

    for _ in range(20):
        with pytest.raises(KeyUnavailable):
            after.found(forged)

    assert provider.asked == 1
