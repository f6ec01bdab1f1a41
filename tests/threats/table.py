"""
``docs/appendix/threats.md`` lists the threats; their tests have the same numbers.

``python -m tests.threats.table`` writes its lists of requirements and of sizes; a test fails where
they are out of date.
"""

from __future__ import annotations

import ast
import functools
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from tests.threats.rfc import REQUIREMENTS, Requirement
from tests.threats.sizes import ALL

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "appendix" / "threats.md"

_NUMBERED = re.compile(r"test_t(\d\d)")


def threats() -> list[int]:
    """The numbers of the threats in the document, in its order."""
    listed = re.findall(r"^- \*\*T(\d+)\. ", DOCUMENT.read_text(encoding="utf-8"), re.M)
    return [int(number) for number in listed]


@functools.cache
def known_tests() -> dict[str, str]:
    """Every test function under ``tests``, and its file."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = path.relative_to(ROOT).as_posix()
    return found


@functools.cache
def proving_tests() -> set[str]:
    """Names of those that check something, and are not always skipped."""
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


def of_threat(number: int, names: Iterable[str]) -> list[str]:
    """The tests of a threat."""
    return [n for n in names if (m := _NUMBERED.match(n)) and int(m[1]) == number]


def of_requirement(requirement: Requirement, names: Iterable[str]) -> list[str]:
    """The tests of a requirement."""
    return [name for name in names if name.startswith(requirement.tests)]


def document(text: str) -> str:
    """*text* with its lists as they must be."""
    known = known_tests()
    for name, lines in {
        "requirements": _requirements(known),
        "sizes": _sizes(),
    }.items():
        before, beginning, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = "".join([before, beginning, *(f"{line}\n" for line in lines), end, after])
    return text


def _requirements(known: Mapping[str, str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for rfc, requirements in groupby(REQUIREMENTS, key=lambda each: each.section.split()[0]):
        yield from ("", f"### RFC {rfc}", "")
        shown: dict[str, None] = {}
        for each in requirements:
            section = each.section.split()[1]
            if not each.argument:
                shown[section] = None
                continue
            argument = f"As for {seen[each.argument]}." if each.argument in seen else each.argument
            seen.setdefault(each.argument, section)
            tests = f" ({_shown_by(each, known)})" if each.tests else ""
            yield from _wrapped(f"- {section}: *{each.wants}*{tests}. {argument}")
        yield from _wrapped(f"- Met as the tests show: {', '.join(shown)}.")
    yield ""


def _shown_by(requirement: Requirement, known: Mapping[str, str]) -> str:
    """The threats whose tests show it, and "own" where it has tests besides."""
    threats = {f"T{int(m[1])}": None for name in requirement.tests if (m := _NUMBERED.match(name))}
    own = any(not _NUMBERED.match(name) for name in of_requirement(requirement, known))
    return ", ".join([*threats, *(["own test"] if own else [])])


def _sizes() -> list[str]:
    return [f"- `{each.variable}`: {each.default:,} ({each.full:,}) {each.counts}" for each in ALL]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, width=118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
