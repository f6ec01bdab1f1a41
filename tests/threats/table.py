"""``docs/appendix/threats.md``: its threats and requirements, and the tests that show them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "appendix" / "threats.md"

TEXT = DOCUMENT.read_text(encoding="utf-8")

_NUMBERED = re.compile(r"test_t(\d\d)")
_REQUIREMENT = re.compile(r"^- (§\S+): \*.+?\*(?: \(([^)]*)\))?\.(.*)$", re.M)


def threats() -> list[int]:
    """The numbers of the threats in the document, in its order."""
    return [int(number) for number in re.findall(r"^- \*\*T(\d+)\. ", TEXT, re.M)]


def requirements() -> list[tuple[str, list[str], str]]:
    """Of each requirement: the section, how the names of its tests begin, the argument."""
    text = re.sub(r"\n  +", " ", TEXT.partition("## RFC ")[2].partition("\n## ")[0])
    found: list[tuple[str, list[str], str]] = []
    for part in text.split("\n### RFC ")[1:]:
        rfc, _, listed = part.partition("\n")
        for section, shown, argument in _REQUIREMENT.findall(listed):
            tests = [_name(each) for each in shown.split("; ") if each]
            found.append((f"{rfc} {section}", tests, argument.strip()))
    return found


def _name(shown: str) -> str:
    """How the names of the tests begin that are shown as the threat T7, or in words."""
    return f"test_t{shown[1:]:0>2}_" if shown[1:].isdigit() else f"test_{shown.replace(' ', '_')}"


@functools.cache
def known_tests() -> dict[str, str]:
    """Every test function under ``tests``, and its file."""
    found: dict[str, str] = {}
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = path.relative_to(ROOT).as_posix()
    return found


@functools.cache
def _trees() -> dict[Path, ast.Module]:
    """The syntax of every file of tests."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}


@functools.cache
def proving_tests() -> set[str]:
    """Names of those that check something, and are not always skipped."""
    found: set[str] = set()
    for tree in _trees().values():
        skipped = any(_is_skip(node) for node in tree.body if isinstance(node, ast.Assign))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not skipped and _proves(node):
                found.add(node.name)
    return found


def _proves(test: ast.FunctionDef) -> bool:
    checks = any(isinstance(each, ast.Assert) or _is_raises(each) for each in ast.walk(test))
    return checks and not any(_is_skip(each) for each in test.decorator_list)


def _is_raises(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "raises"


def _is_skip(node: ast.AST) -> bool:
    """A mark that skips or forgives without a condition."""
    names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return bool(names & {"skip", "xfail"})


def of_threat(number: int, names: Iterable[str]) -> list[str]:
    """The tests of a threat."""
    return [n for n in names if (m := _NUMBERED.match(n)) and int(m[1]) == number]
