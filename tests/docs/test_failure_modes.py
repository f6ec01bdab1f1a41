"""The page of known failure modes: forty reports, each with a test that exists."""

from __future__ import annotations

import re

import pytest

from tests.docs.snippets import DOCS
from tests.threats.table import known_tests

PAGE = (DOCS / "appendix" / "failure_modes.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[(\d+)\] \| .+ \| .+ \| `(\w+)` \|$", PAGE, re.MULTILINE)
LINKS = re.findall(r"^\[(\d+)\]: (https://github\.com/\S+)$", PAGE, re.MULTILINE)


def test_forty_reports_have_a_row_and_an_address_each() -> None:
    numbers = [str(number) for number in range(1, 41)]

    assert [number for number, _ in ROWS] == numbers
    assert [number for number, _ in LINKS] == numbers
    assert len({address for _, address in LINKS}) == 40


@pytest.mark.parametrize("part", [part for _, part in ROWS])
def test_a_row_names_a_test_that_exists(part: str) -> None:
    found = [name for name in known_tests() if part in name]

    assert len(found) in (1, 2), found
