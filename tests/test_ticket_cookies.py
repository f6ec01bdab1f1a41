"""Our ticket in a Cookie header among hostile neighbours (T9)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finch_middleware.crypto.vault import Vault
from finch_middleware.tickets import with_state
from finch_middleware.web.request import CallbackRequest
from tests.test_tickets import NOW, TICKETS, a_ticket, ids, pair
from tests.threats.sizes import COOKIES

odd_text = st.text(st.characters(max_codepoint=255, exclude_characters=";\r\n"), max_size=60)
our_names = st.sampled_from(["__Host-finch-", "__Host-finch-abcdefgh", "__Host-finch-ABCDEFGH"])
neighbours = st.one_of(
    odd_text,
    st.builds("{}={}".format, odd_text, odd_text),
    st.builds("{}={}".format, our_names, odd_text),
    st.builds('{}="{}"'.format, our_names, odd_text),
    st.builds("{}=fm1.{}".format, our_names, st.text("AZaz09-_.", min_size=140, max_size=300)),
    st.sampled_from(
        ['a="b', 'a="b;c"', "=", "==", '"', "\\", "$Version=1", "a=b=c", "\x00", "é=ü", ","]
    ),
)
TICKET = a_ticket()
NAME, VALUE = pair(TICKETS.cookie(TICKET, at=NOW))


@settings(max_examples=COOKIES())
@given(
    st.lists(neighbours, max_size=12),
    st.lists(neighbours, max_size=12),
    st.sampled_from([";", "; ", " ;\t"]),
)
@example([f"{NAME}=rubbish"], [f"{NAME}={VALUE[:-1]}"], "; ")
@example([f"{NAME}=" + VALUE.swapcase()] * 200, [], "; ")
@example(["x=" + "y" * 65536], ["\xff" * 1000], ";")
@example(["__Host-finch-abcdefgh=fm1." + "k" * 32 + "." + "A" * 160] * 320, [], ";")
def test_a_valid_cookie_is_found_among_any_neighbours(
    before: list[str], after: list[str], separator: str
) -> None:
    header = separator.join([*before, f"{NAME}={VALUE}", *after])
    request = CallbackRequest.of({"REQUEST_METHOD": "GET", "HTTP_COOKIE": header})

    found = TICKETS.found(request.cookies())

    assert ids(found) == [TICKET.flow_id]
    assert with_state(found, TICKET.state) is not None


@settings(max_examples=COOKIES())
@given(st.text(st.characters(max_codepoint=255), max_size=400))
def test_no_cookie_header_at_all_raises_or_gives_a_ticket(header: str) -> None:
    request = CallbackRequest.of({"REQUEST_METHOD": "GET", "HTTP_COOKIE": header})

    assert TICKETS.found(request.cookies()) == []
    TICKETS.surplus(request.cookies(), kept=0)


def test_a_header_full_of_short_rubbish_costs_no_decryption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(Vault, "open", lambda self, sealed, **place: opened.append(sealed))

    TICKETS.found([("__Host-finch-abcdefgh", "fm1." + "k" * 32 + ".AAAA")] * 5000)

    assert opened == []
