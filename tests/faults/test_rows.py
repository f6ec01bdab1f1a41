"""Every row of the tables of faults has its test, and every test of a fault has its row."""

from __future__ import annotations

import re

import pytest

from tests.threats.table import known_tests, proving_tests

#: The row of a table: how the names of its tests begin, behind ``test_``.
ROWS = {
    "2.1 query too long, bad UTF-8, duplicate parameters, NUL": "t13",
    "2.1 no ticket; other browser, user or client; expired": "t01",
    "2.1 HEAD, OPTIONS, PUT, prefetch": "t07",
    "2.1 access_denied with a valid state": "a_no_leads_back",
    "2.1 an error, or neither code nor error, with a ticket, no state": "a_no_leads_back",
    "2.1 an error without a ticket, or with a wrong state": "a_no_to_nothing",
    "2.1 POST without length, chunked, too large, short, not JSON": "receive_bad_body",
    "2.1 wsgi.input stalls or raises": "a_page_that_drips_its_body",
    "2.1 keyring missing at start-up": "a_wrong_value",
    "2.1 wall clock jumps": "receive_clock_jump",
    "2.2 storage down, read-only, refusing": "claim_storage_down",
    "2.2 storage hangs": "claim_storage_hangs",
    "2.2 SQLite locked": "claim_behind_another",
    "2.2 disk full": "claim_disk_full",
    "2.2 sync returns an error": "claim_disk_full_or_sync_error",
    "2.2 commit of unknown outcome": "claim_commit_unknown",
    "2.2 duplicate while the winner works": "duplicates_wait_for_the_first_request",
    "2.2 same state, other code": "a_second_code_cannot_take_a_flow",
    "2.2 same code, other flow or browser": "a_code_that_another_browser_brought",
    "2.2 killed before the exchange": "claim_killed",
    "2.3 unreachable": "exchange_unreachable",
    "2.3 broken after the request was sent": "exchange_ambiguous",
    "2.3 drip and stall": "t19",
    "2.3 too large, compressed": "exchange_spent_code",
    "2.3 redirect": "t18",
    "2.3 code rejected": "exchange_spent_code",
    "2.3 client rejected": "exchange_unspent_code",
    "2.3 429 with a Retry-After": "an_exchange_waits",
    "2.3 429 without, or too long; 402": "exchange_unspent_code",
    "2.3 server error, 503 with a Retry-After": "exchange_spent_code",
    "2.3 killed while waiting": "exchange_killed",
    "2.3 client disconnects": "exchange_client_gone",
    "2.4 wrong shape": "exchange_spent_code",
    "2.4 unknown fields": "t21",
    "2.4 other customer, fewer products": "validate_other_customer",
    "2.4 odd token": "validate_odd_token",
    "2.5 transient error": "persist_transient",
    "2.5 storage down for good": "persist_storage_down",
    "2.5 storage and spool fail": "persist_storage_and_spool",
    "2.5 commit of unknown outcome": "persist_commit_unknown",
    "2.5 same connection twice in parallel": "persist_same_connection",
    "2.5 old spool entry": "persist_old_spool_entry",
    "2.5 spool entry that cannot leave": "an_entry_that_the_storage_never_takes",
    "2.5 killed": "persist_killed",
    "2.5 power lost": "persist_power_lost",
    "2.5 sealing fails": "a_key_that_is_unavailable",
    "2.6 browser gone": "exchange_client_gone",
    "2.6 start_response raises": "respond_start_response",
    "2.6 server aborts": "respond_server_aborts",
    "2.6 hook raises or dies": "respond_hook",
    "2.6 reload, back, second tab": "t06",
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
