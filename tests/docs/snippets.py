"""The documents, and the code between their fences."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])

_FENCE = re.compile(
    r"^```(\w+)?(?: title=\"([^\"\n]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A fence: the language behind it, the name of the file that it is, if any, and its text."""

    language: str
    title: str
    text: str


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under that heading, up to the next one of its rank or a higher one."""
    rank = heading.split()[0]
    below = text.split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{1,{len(rank)}}} ", below, flags=re.MULTILINE)[0]


def snippets(text: str, *languages: str) -> list[Snippet]:
    """The fences in *text* of these languages, or all."""
    found = [Snippet(language=a, title=b, text=c) for a, b, c in _FENCE.findall(text)]
    return [each for each in found if not languages or each.language in languages]


def run(code: Iterable[str], name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the snippets *code* of the document *name* make, one after the other."""
    module = ModuleType("snippet")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # frameworks look up their caller
    for snippet in code:
        exec(compile(snippet, name, "exec"), module.__dict__)
    return module
