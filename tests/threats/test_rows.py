"""Every threat and every requirement has its test, and the document lists them."""

from __future__ import annotations

import re

import pytest

from tests.threats.rfc import REQUIREMENTS, Requirement
from tests.threats.table import (
    DOCUMENT,
    document,
    known_tests,
    of_requirement,
    of_threat,
    proving_tests,
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


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda each: each.section)
def test_every_requirement_has_tests_that_exist_or_an_argument(requirement: Requirement) -> None:
    for name in requirement.tests:
        assert [test for test in _KNOWN if test.startswith(name)], name
    assert of_requirement(requirement, _KNOWN) or len(requirement.argument) > 20


def test_every_section_that_was_asked_for_is_there() -> None:
    asked = {"6749 §4.1", "6749 §10", "9700 §2.1", "9700 §4.2.4", "9700 §4.4", "9700 §4.5"}
    asked |= {"9700 §4.7.1", "9700 §4.11.1", "9700 §4.17"}

    missing = [
        section
        for section in asked
        if not [each for each in REQUIREMENTS if each.section.startswith(section)]
    ]

    assert missing == []


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    # To update it: python -m tests.threats.table
    assert text == document(text)
