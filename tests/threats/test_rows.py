"""Every threat and every requirement has its test, and the document lists them."""

from __future__ import annotations

import re

import pytest

from tests.threats.sizes import ALL
from tests.threats.table import (
    TEXT,
    known_tests,
    of_threat,
    proving_tests,
    requirements,
    threats,
)

_KNOWN = known_tests()
_PROVING = proving_tests()
_NUMBERED = re.compile(r"test_t\d+_")


_THREATS = threats()


def test_the_document_numbers_its_threats() -> None:
    assert list(range(1, len(_THREATS) + 1)) == _THREATS
    assert len(_THREATS) >= 46


@pytest.mark.parametrize("number", _THREATS)
def test_every_threat_has_a_test(number: int) -> None:
    assert of_threat(number, _KNOWN)


def test_no_test_of_a_threat_is_empty_or_always_skipped() -> None:
    named = {name for number in _THREATS for name in of_threat(number, _KNOWN)}

    assert named - _PROVING == set()


def test_every_numbered_test_is_of_a_known_threat() -> None:
    numbered = [name for number in _THREATS for name in of_threat(number, _KNOWN)]
    strays = [name for name in _KNOWN if _NUMBERED.match(name)]

    assert sorted(numbered) == sorted(strays)


_REQUIREMENTS = requirements()


@pytest.mark.parametrize(
    ("tests", "argument"), [each[1:] for each in _REQUIREMENTS], ids=[e[0] for e in _REQUIREMENTS]
)
def test_every_requirement_has_tests_that_exist_or_an_argument(
    tests: list[str], argument: str
) -> None:
    for name in tests:
        assert [test for test in _PROVING if test.startswith(name)], name
    assert tests or re.match(r"As for §|.{20}", argument)


def test_every_section_that_was_asked_for_is_there() -> None:
    asked = {"6749 §4.1", "6749 §10", "9700 §2.1", "9700 §4.2.4", "9700 §4.4", "9700 §4.5"}
    asked |= {"9700 §4.7.1", "9700 §4.11.1", "9700 §4.17"}
    sections = [section for section, _, _ in _REQUIREMENTS]

    missing = {each for each in asked if not [s for s in sections if s.startswith(each)]}

    assert missing == set()
    assert len(sections) == TEXT.count("\n- §") >= 49


def test_the_document_lists_the_sizes_of_the_campaigns() -> None:
    listed = re.findall(r"^- `FINCH_.*$", TEXT, re.M)

    assert listed == [f"- `{s.variable}`: {s.default:,} ({s.full:,}) {s.counts}" for s in ALL]
