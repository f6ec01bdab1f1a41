"""Every row of the tables of faults has its test, and every test of a fault has its row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.threats.table import proving_tests

#: The row of a table: how the names of its tests begin, behind ``test_``.
ROWS = {
    "2.1 query too long, bad UTF-8, duplicate parameters, NUL": "receive_malformed",
    # Another client's cookie does not open, so it is no ticket: nothing could tell it from noise.
    "2.1 no ticket (a foreign one is none); other browser, user; expired": (
        "receive_without_a_binding"
    ),
    "2.1 HEAD, OPTIONS, PUT, prefetch": "receive_other_methods",
    "2.1 access_denied with a valid state": "receive_access_denied",
    "2.1 an error, or neither code nor error, with a ticket, no state": "receive_declined",
    "2.1 an error without a ticket, or with a wrong state": "receive_unsolicited",
    "2.1 POST without length, chunked, too large, short, not JSON": "receive_bad_body",
    "2.1 wsgi.input stalls or raises": "receive_broken_input",
    "2.1 keyring missing at start-up": "receive_missing_key",
    "2.1 wall clock jumps": "receive_clock_jump",
    "2.2 storage down, read-only, refusing": "claim_storage_down",
    "2.2 storage hangs": "claim_storage_hangs",
    "2.2 SQLite locked": "claim_sqlite_locked",
    "2.2 disk full": "claim_disk_full",
    "2.2 sync returns an error": "claim_sync_error",
    "2.2 commit of unknown outcome": "claim_commit_unknown",
    "2.2 duplicate while the winner works": "claim_duplicate",
    "2.2 same state, other code": "claim_same_state",
    "2.2 same code, other flow or browser": "claim_same_code",
    "2.2 killed before the exchange": "claim_killed",
    "2.3 unreachable": "exchange_unreachable",
    "2.3 broken after the request was sent": "exchange_ambiguous",
    "2.3 drip and stall": "exchange_timeout",
    "2.3 too large, compressed": "exchange_bad_response",
    "2.3 redirect": "exchange_redirect",
    "2.3 code rejected": "exchange_code_rejected",
    "2.3 client rejected": "exchange_client_rejected",
    "2.3 429 and 503 with a Retry-After": "exchange_throttled",
    "2.3 429 without, or too long; 402": "exchange_told_to_wait",
    "2.3 server error": "exchange_server_error",
    "2.3 killed while waiting": "exchange_killed",
    "2.3 client disconnects": "exchange_client_gone",
    "2.4 wrong shape": "validate_wrong_shape",
    "2.4 unknown fields": "validate_unknown_fields",
    "2.4 other customer, fewer products": "validate_other_customer",
    "2.4 odd token": "validate_odd_token",
    "2.5 transient error": "persist_transient",
    "2.5 storage down for good": "persist_storage_down",
    "2.5 storage and spool fail": "persist_storage_and_spool",
    "2.5 commit of unknown outcome": "persist_commit_unknown",
    "2.5 same connection twice in parallel": "persist_same_connection",
    "2.5 old spool entry": "persist_old_spool_entry",
    "2.5 spool entry that cannot leave": "persist_a",  # a drained one, a refused one
    "2.5 killed": "persist_killed",
    "2.5 power lost": "persist_power_lost",
    "2.5 sealing fails": "persist_sealing_fails",
    "2.6 browser gone": "respond_broken_pipe",
    "2.6 start_response raises": "respond_start_response",
    "2.6 server aborts": "respond_server_aborts",
    "2.6 hook raises or dies": "respond_hook",
    "2.6 reload, back, second tab": "respond_reload",
}

_FILES = {
    "2.1": "test_receive.py",
    "2.2": "test_claim.py",
    "2.3": "test_exchange.py",
    "2.4": "test_validate.py",
    "2.5": "test_persist.py",
    "2.6": "test_respond.py",
}


def names_in(table: str) -> list[str]:
    """The names of the tests in the file of that table."""
    path = Path(__file__).parent / _FILES[table]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in functions if name.startswith("test_")]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test(row: str) -> None:
    names = names_in(row.partition(" ")[0])

    assert [name for name in names if name.startswith(f"test_{ROWS[row]}_")]


def test_no_test_of_a_row_is_empty_or_always_skipped() -> None:
    named = {name for row in ROWS for name in names_in(row.partition(" ")[0])}

    assert named - proving_tests() == set()


@pytest.mark.parametrize("table", _FILES)
def test_a_test_has_a_row(table: str) -> None:
    begins = tuple(f"test_{each}_" for row, each in ROWS.items() if row.startswith(table))

    assert [name for name in names_in(table) if not name.startswith(begins)] == []
