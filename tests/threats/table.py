"""
The tables of ``docs/security.md``, made from the rows, the requirements and the tests.

``python -m tests.threats.table`` writes them; a test fails where the document is behind.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.threats.rfc import REQUIREMENTS, Requirement
from tests.threats.rows import ROWS, Row
from tests.threats.sizes import ALL

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "security.md"

_NUMBERED = re.compile(r"test_t(\d\d)_")


def known_tests() -> dict[str, str]:
    """Every test function under ``tests``, and the file that it stands in."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = path.relative_to(ROOT).as_posix()
    return found


def proving_tests() -> set[str]:
    """Names of those that check something, and are not skipped whatever happens."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
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


def of_row(row: Row, names: Iterable[str]) -> list[str]:
    """The tests of a row."""
    return [n for n in names if (m := _NUMBERED.match(n)) and int(m[1]) == row.number]


def of_requirement(requirement: Requirement, names: Iterable[str]) -> list[str]:
    """The tests of a requirement."""
    return [name for name in names if name.startswith(requirement.tests)]


def document(text: str) -> str:
    """*text* with its tables as they must be."""
    known = known_tests()
    for name, lines in {
        "threats": _threats(known),
        "requirements": _requirements(known),
        "sizes": _sizes(),
    }.items():
        before, beginning, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = "".join([before, beginning, *(f"{line}\n" for line in lines), end, after])
    return text


def _threats(known: Mapping[str, str]) -> list[str]:
    lines = ["| | Threat | What happens | Shown by |", "|---|---|---|---|"]
    for row in ROWS:
        shown = _cited([*of_row(row, known), *row.also], known)
        lines.append(f"| T{row.number} | {row.threat} | {row.does} | {shown} |")
    return lines


def _cited(names: Iterable[str], known: Mapping[str, str]) -> str:
    """Each test by its promise, under its file."""
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(known[name], []).append(_promise(name))
    return "<br>".join(f"`{file}`: {'; '.join(told)}" for file, told in files.items())


def _promise(name: str) -> str:
    return _NUMBERED.sub("", name).removeprefix("test_").replace("_", " ")


def _requirements(known: Mapping[str, str]) -> list[str]:
    lines = ["| RFC | Wants | Shown by |", "|---|---|---|"]
    for each in REQUIREMENTS:
        shown = ", ".join(f"`{name}…`" if name not in known else f"`{name}`" for name in each.tests)
        told = " ".join(part for part in (shown, each.argument) if part)
        lines.append(f"| {each.section} | {each.wants} | {told} |")
    return lines


def _sizes() -> list[str]:
    lines = ["| Variable | Counts | By default | With `FINCH_FULL=1` |", "|---|---|---|---|"]
    return lines + [
        f"| `{each.variable}` | {each.counts} | {each.default:,} | {each.full:,} |" for each in ALL
    ]


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
