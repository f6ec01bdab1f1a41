"""
What differs between a page in the repository and the same page on the site.

The site shows the code of a file where the page in the repository links to it. Other links to
files outside the manual become plain text, because the site has the manual alone. A screenshot
that has a dark sibling is shown in the colours of the site.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent
_INCLUDE = re.compile(r"^.*<!-- include: (\S+) -->$", re.MULTILINE)
_SCREENSHOT = re.compile(r"(!\[[^\]]*\]\(images/)(\w+)\.png\)(\{[^}\n]*\})?")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """*markdown*, each line that ends in ``<!-- include: file -->`` now that file's code."""
    markdown = _SCREENSHOT.sub(_in_both_schemes, markdown)
    return _INCLUDE.sub(_code, _OUTSIDE.sub(r"\1", markdown))


def _in_both_schemes(image: re.Match[str]) -> str:
    before, name, attributes = image[1], image[2], image[3] or ""
    light, dark = f"{before}{name}.png#only-light)", f"{before}{name}-dark.png#only-dark)"
    return f"{light}{attributes}\n{dark}{attributes}"


def _code(line: re.Match[str]) -> str:
    path = DOCS / line[1]
    text = path.read_text(encoding="utf-8").strip()
    language = path.suffix.removeprefix(".")
    return f'```{language} title="{path.resolve().relative_to(DOCS.parent)}"\n{text}\n```'
