"""Lists of files that would go stale unnoticed: each name on them exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.mutation import PARTS, Part
from tests import selection

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_mutated_part_and_its_tests_exist(part: Part) -> None:
    files = [f"finch_middleware/{part.file}", *part.tests]

    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", runpy.run_path(str(ROOT / ".ci" / "coverage_gate.py"))["WHOLE"])
def test_a_file_whose_branches_have_to_be_tested_exists(name: str) -> None:
    assert list((ROOT / "finch_middleware").glob(name))


@pytest.mark.parametrize("name", selection.FOLDERS)
def test_a_folder_that_the_default_run_leaves_out_exists(name: str) -> None:
    assert list((ROOT / "tests" / name).glob("test_*.py"))


@pytest.mark.parametrize("name", [selection.CONTRACT_ON_SERVERS])
def test_a_file_that_the_default_run_has_on_more_storages_exists(name: str) -> None:
    assert (ROOT / "tests" / name).exists()


def test_every_path_of_contributing_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = (ROOT, ROOT / "finch_middleware", ROOT / "tests")

    named = set(re.findall(r"`([\w./]+(?:\.py|\.md|/))`", text))

    assert len(named) > 60
    assert [name for name in named if not any((each / name).exists() for each in folders)] == []


def test_contributing_names_every_file_and_folder_of_the_package_with_its_test() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ([^|]*) \| ([^|]+) \|$", text, re.MULTILINE)[2:]
    named = {name for code, _ in rows for name in re.findall(r"`([\w/.]+)`", code)}
    package = (ROOT / "finch_middleware").iterdir()
    parts = {p.name for p in package if p.suffix == ".py" or (p / "__init__.py").exists()}

    missing = parts - {"__init__.py"} - {name.partition("/")[0] for name in named}

    assert missing == set()
    assert [tests for _, tests in rows if "`" not in tests] == []
