"""
What differs between a page in the repository and the same page on the site.

What the README says already, the manual shows and does not repeat. And a link to a file beside
the manual, such as an example, is its name there: the site has the manual alone.
"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
_MARK = re.compile(r"^.*<!-- README: (.+) -->$", re.MULTILINE)
_BESIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """*markdown*, each line that ends in ``<!-- README: Heading -->`` now what stands there."""
    return _BESIDE.sub(r"\1", _MARK.sub(lambda found: section(found[1]), markdown))


def section(heading: str) -> str:
    """
    The README's text under that heading, its links as they are from a page of the manual.

    Raises:
        LookupError: The README has no such heading.
    """
    _, found, rest = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    if not found:
        raise LookupError(f"README.md has no heading {heading!r}")
    return rest.partition("\n## ")[0].replace("](docs/", "](").strip()
