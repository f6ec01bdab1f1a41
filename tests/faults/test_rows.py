"""Every fault has its test, and every test of a fault is listed under its step."""

from __future__ import annotations

import re

import pytest

from tests.threats.table import known_tests, proving_tests

#: The step and the fault: how the names of its tests begin, behind ``test_``.
ROWS = {
    "receive: query too long, bad UTF-8, duplicate parameters, NUL": "t13",
    "receive: no ticket; other browser, user or client; expired": "t01",
    "receive: HEAD, OPTIONS, PUT, prefetch": "t07",
    "receive: access_denied with a valid state": "a_no_leads_back",
    "receive: an error, or neither code nor error, with a ticket, no state": "a_no_leads_back",
    "receive: an error without a ticket, or with a wrong state": "a_no_to_nothing",
    "receive: POST without length, chunked, too large, short, not JSON": "receive_bad_body",
    "receive: wsgi.input stalls or raises": "a_page_that_drips_its_body",
    "receive: keyring missing at start-up": "a_wrong_value",
    "receive: wall clock jumps": "receive_clock_jump",
    "claim: storage down, read-only, refusing": "claim_storage_down",
    "claim: storage hangs": "claim_storage_hangs",
    "claim: SQLite locked": "claim_behind_another",
    "claim: disk full": "claim_disk_full",
    "claim: sync returns an error": "claim_disk_full_or_sync_error",
    "claim: commit of unknown outcome": "claim_commit_unknown",
    "claim: duplicate while the winner works": "duplicates_wait_for_the_first_request",
    "claim: same state, other code": "a_second_code_cannot_take_a_flow",
    "claim: same code, other flow or browser": "a_code_that_another_browser_brought",
    "claim: killed before the exchange": "claim_killed",
    "exchange: unreachable": "exchange_unreachable",
    "exchange: broken after the request was sent": "exchange_ambiguous",
    "exchange: drip and stall": "t19",
    "exchange: too large, compressed": "exchange_spent_code",
    "exchange: redirect": "t18",
    "exchange: code rejected": "exchange_spent_code",
    "exchange: client rejected": "exchange_unspent_code",
    "exchange: 429 with a Retry-After": "an_exchange_waits",
    "exchange: 429 without, or too long; 402": "exchange_unspent_code",
    "exchange: server error, 503 with a Retry-After": "exchange_spent_code",
    "exchange: killed while waiting": "exchange_killed",
    "exchange: client disconnects": "exchange_client_gone",
    "validate: wrong shape": "exchange_spent_code",
    "validate: unknown fields": "t21",
    "validate: other customer, fewer products": "validate_other_customer",
    "validate: odd token": "validate_odd_token",
    "persist: transient error": "persist_transient",
    "persist: storage down for good": "persist_storage_down",
    "persist: storage and spool fail": "persist_storage_and_spool",
    "persist: commit of unknown outcome": "persist_commit_unknown",
    "persist: same connection twice in parallel": "persist_same_connection",
    "persist: old spool entry": "persist_old_spool_entry",
    "persist: spool entry that cannot leave": "an_entry_that_the_storage_never_takes",
    "persist: killed": "persist_killed",
    "persist: power lost": "persist_power_lost",
    "persist: sealing fails": "a_key_that_is_unavailable",
    "respond: browser gone": "exchange_client_gone",
    "respond: start_response raises": "respond_start_response",
    "respond: server aborts": "respond_server_aborts",
    "respond: hook raises or dies": "respond_hook",
    "respond: reload, back, second tab": "t06",
}

_KNOWN = known_tests()


def names_of(row: str) -> list[str]:
    """The names of the tests of that row."""
    return [name for name in _KNOWN if name.startswith(f"test_{ROWS[row]}_")]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test(row: str) -> None:
    assert names_of(row)


def test_no_test_of_a_row_is_empty_or_always_skipped() -> None:
    named = {name for row in ROWS for name in names_of(row)}

    assert named - proving_tests() == set()


def test_a_test_of_a_step_has_a_row() -> None:
    steps = re.compile(r"test_(receive|claim|exchange|validate|persist|respond)_")
    begins = tuple(f"test_{each}_" for each in ROWS.values())
    strays = [
        name for name, file in _KNOWN.items() if "tests/faults/" in file and steps.match(name)
    ]

    assert [name for name in strays if not name.startswith(begins)] == []
