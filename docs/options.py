"""
Writes the list of options in configuration.md, from the options' own declarations.

    python docs/options.py
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from finch_middleware.config.options import OPTIONS, Options

PAGE = Path(__file__).parent / "configuration.md"
#: The first option under each heading.
HEADINGS = {
    "client_id": "Required",
    "spool": "Keys and storage",
    "sandbox": "Paths and flows",
    "customer_of": "Your application",
    "exchange_deadline": "The connection to Finch",
}
BEGIN, END = "<!-- options -->\n", "<!-- /options -->"


def option_list() -> str:
    """Every option with its environment variable and meaning, one sentence a line."""
    return "\n".join(_lines()).strip() + "\n"


def _meanings() -> Iterator[tuple[str, str]]:
    """Every option's name, and the docstring below its row."""
    tree = ast.parse(inspect.getsource(Options)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for pair in itertools.pairwise(tree.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                yield name, " ".join(text.split())


def _lines() -> Iterator[str]:
    meanings = dict(_meanings())
    for name, option in OPTIONS.items():
        if name in HEADINGS:
            yield from ("", f"### {HEADINGS[name]}", "")
        names = f"- `{name}`, `{option.variable}`" if option.variable else f"- `{name}`"
        meaning = meanings[name][0].lower() + meanings[name][1:]
        for sentence in re.split(r"(?<=\.) ", f"{names}: {meaning}"):
            indent = "" if sentence.startswith("- `") else "  "
            yield textwrap.fill(
                sentence,
                width=120,
                initial_indent=indent,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + option_list() + END + rest.partition(END)[2], encoding="utf-8")
