"""The security questionnaire: forty questions, and commands that exist and select tests."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs.snippets import ROOT, page

QUESTIONS = re.findall(
    r"^(\d+)\. \*\*(.+?\?)\*\* ((?:.|\n)+?)(?=\n\d+\. |\n\n|\Z)",
    page("appendix/security-questionnaire"),
    re.MULTILINE,
)
COMMANDS = [re.findall(r"`([^`]+)`", response)[-1:] for _, _, response in QUESTIONS]
PROGRAMS = ("finch-middleware", "pytest", "python", "pip", "cat", ".ci/run", ".ci/release")


def pytest_arguments(command: str) -> list[str]:
    """The arguments of a ``pytest`` command; none for another command."""
    program, *arguments = shlex.split(command)
    return arguments if program == "pytest" else []


def test_forty_questions_have_one_command_each() -> None:
    assert [int(number) for number, _, _ in QUESTIONS] == list(range(1, 41))
    assert [each for each in COMMANDS if not each or each[0].split()[0] not in PROGRAMS] == []


def test_every_file_that_a_command_names_exists() -> None:
    words = {word for [command] in COMMANDS for word in shlex.split(command)}

    paths = {word for word in words if re.match(r"(tests|\.ci)/|.+\.md$", word)}

    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.full
@pytest.mark.parametrize(
    "command", sorted({each for [each] in COMMANDS if pytest_arguments(each)}), ids=str
)
def test_a_command_for_pytest_selects_tests(command: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *pytest_arguments(command)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )

    assert found.returncode == 0, found.stdout[-2000:]
