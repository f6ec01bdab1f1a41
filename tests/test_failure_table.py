"""README's table of failures: every end that there is has a row, and the row is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from finch_middleware.outcomes import FAILED_REASONS, INVALID_REASONS, Retry

README = Path(__file__).parent.parent / "README.md"
REASONS = {**INVALID_REASONS, **FAILED_REASONS}

#: How a row begins, and the reasons that it tells of.
TOLD = {
    "not this browser's flow": {
        "malformed",
        "cross_site",
        "unsolicited",
        "no_ticket",
        "no_state",
        "state_mismatch",
        "expired",
        "other_customer",
    },
    "nobody is signed in any more": {"signed_out"},
    "not the request that a person makes": {
        "prefetch",
        "method",
        "length_required",
        "too_large",
        "body",
    },
    "a code or a flow that is used already": {"already_used", "code_mismatch"},
    "the code belongs to another customer": {"customer_unconfirmed"},
    "Finch cannot be reached": {"unreachable", "throttled"},
    "Finch does not know the client id": {"client_rejected"},
    "Finch wants to be paid first": {"payment_required"},
    "Finch takes the code and no answer comes": {"ambiguous"},
    "Finch takes the code and answers what": {"bad_response"},
    "Finch rejects the code": {"code_rejected"},
    "the storage, the spool or the key service": {
        "storage_unavailable",
        "spool_unavailable",
        "key_unavailable",
    },
    "storage and spool are both away": {"token_lost"},
    "the process dies in the middle": {"interrupted"},
}
#: These rows end in the application, with a hint and no reason.
GOING_ON = {
    "the employer says no",
    "the same return again",
    "the storage is away after the exchange",
}
HELPS = {Retry.RELOAD: "reload", Retry.RESTART: "start again", Retry.NONE: ""}


def rows() -> list[list[str]]:
    """The cells of each row."""
    _, _, after = README.read_text(encoding="utf-8").partition("## What happens when")
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def row_of(beginning: str) -> list[str]:
    [row] = [cells for cells in rows() if cells[0].startswith(beginning)]
    return row


def test_every_reason_has_one_row() -> None:
    told = [reason for reasons in TOLD.values() for reason in reasons]

    assert sorted(told) == sorted(REASONS)


def test_every_row_tells_of_something_that_there_is() -> None:
    beginnings = [*TOLD, *GOING_ON]

    found = [row_of(beginning)[0] for beginning in beginnings]

    assert sorted(found) == sorted(cells[0] for cells in rows())


@pytest.mark.parametrize("beginning", TOLD)
def test_a_row_names_each_status_and_what_helps(beginning: str) -> None:
    _, seen, _, helps = row_of(beginning)

    ends = [REASONS[reason] for reason in TOLD[beginning]]
    named = {word for word in seen.replace(",", "").split() if word.isdecimal()}

    assert named == {str(status) for status, _ in ends}
    assert all(HELPS[retry] in helps for _, retry in ends)
