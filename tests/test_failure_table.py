"""The manual's table of failures has a row for every outcome, and each row is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from finch_middleware.outcomes import FAILED_REASONS, INVALID_REASONS, Retry

ERRORS = Path(__file__).parent.parent / "docs" / "errors.md"
REASONS = {**INVALID_REASONS, **FAILED_REASONS}

#: How a row begins, and the reasons that it covers.
COVERED = {
    "the return is forged": {
        "malformed",
        "cross_site",
        "unsolicited",
        "no_ticket",
        "no_state",
        "state_mismatch",
        "expired",
        "other_customer",
    },
    "`customer_of` returns None": {"signed_out"},
    "an invitation is cut": {"invitation_unreadable", "invitation_expired", "invitation_used"},
    "a prefetch, another method": {
        "prefetch",
        "method",
        "length_required",
        "too_large",
        "body",
    },
    "the code or flow was used": {"already_used", "code_mismatch"},
    "Finch names another customer": {"customer_unconfirmed"},
    "Finch is unreachable": {"unreachable", "throttled"},
    "Finch rejects the client id": {"client_rejected"},
    "Finch requires payment": {"payment_required"},
    "Finch sends no usable response": {"ambiguous", "bad_response"},
    "Finch rejects the code": {"code_rejected"},
    "storage, spool or key fails before": {
        "storage_unavailable",
        "spool_unavailable",
        "key_unavailable",
    },
    "storage and spool both fail": {"token_lost"},
    "the process dies": {"interrupted"},
}
#: These rows end without a reason.
WITHOUT_REASON = {
    "the employer declines",
    "the same return arrives again",
    "storage fails after the exchange",
}
HELPS = {Retry.RELOAD: "reload", Retry.RESTART: "start again", Retry.NONE: ""}


def rows() -> list[list[str]]:
    """The cells of each row."""
    _, _, after = ERRORS.read_text(encoding="utf-8").partition("<!-- failures -->")
    lines = [line for line in after.partition("<!--")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def row_of(beginning: str) -> list[str]:
    [row] = [cells for cells in rows() if cells[0].startswith(beginning)]
    return row


def test_every_reason_has_one_row() -> None:
    covered = [reason for reasons in COVERED.values() for reason in reasons]

    assert sorted(covered) == sorted(REASONS)


def test_every_row_describes_something_that_can_happen() -> None:
    beginnings = [*COVERED, *WITHOUT_REASON]

    found = [row_of(beginning)[0] for beginning in beginnings]

    assert sorted(found) == sorted(cells[0] for cells in rows())


@pytest.mark.parametrize("beginning", COVERED)
def test_a_row_names_each_status_and_what_helps(beginning: str) -> None:
    _, seen, _, helps = row_of(beginning)

    ends = [REASONS[reason] for reason in COVERED[beginning]]
    named = {word for word in seen.replace(",", "").split() if word.isdecimal()}

    assert named == {str(status) for status, _ in ends}
    assert all(HELPS[retry] in helps for _, retry in ends)
