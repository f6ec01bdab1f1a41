"""Each fact about a connection's life has a test, or is a named unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.threats.table import ROOT, proving_tests

_ROWS = re.findall(
    r"^\| (?!fact|---)(.+?) \| (.+?) \|$",
    Path(__file__).with_name("lifecycle.md").read_text(),
    re.M,
)
_UNKNOWNS = (ROOT / "docs" / "appendix" / "unknowns.md").read_text()


@pytest.mark.parametrize(("fact", "evidence"), _ROWS, ids=[fact for fact, _ in _ROWS])
def test_a_fact_has_tests_or_is_a_named_unknown(fact: str, evidence: str) -> None:
    for each in evidence.split("; "):
        if each.startswith("? "):
            assert f"**{each[2:]}" in _UNKNOWNS
        else:
            prefix = f"test_{each.replace(' ', '_')}"
            assert [name for name in proving_tests() if name.startswith(prefix)], each


def test_the_table_is_read() -> None:
    assert len(_ROWS) > 50
