"""The public types, as the type checkers of an application see them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKERS = {"mypy": ["mypy", "--strict"], "pyright": ["pyright", "--pythonpath", sys.executable]}


@pytest.mark.full
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_typed_application_needs_no_cast_and_its_mistakes_are_found(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; it is in the extra dev-full")
    command = [sys.executable, "-m", *CHECKERS[checker], "tests/typed/application.py"]

    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
