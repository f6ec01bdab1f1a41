"""What it costs to have Finch in an application, in lines."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.examples.running import EXAMPLES

#: Example: its files, without what all examples share.
SOURCES = {
    "flask_app": ["flask_app.py"],
    "flask_middleware": ["flask_middleware.py"],
    "wsgi_app": ["wsgi_app.py"],
    "pyramid_app": ["pyramid_app.py"],
    "bottle_app": ["bottle_app.py"],
    "falcon_app": ["falcon_app.py"],
    "django_project": ["django_project/payroll/urls.py", "django_project/payroll/views.py"],
}
#: Example: files that any project of that framework has, with lines of Finch's among them.
ALSO = {"django_project": ["django_project/payroll/settings.py"]}

_BLANK = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(path: Path) -> list[str]:
    """The lines of code: no blank ones, no comments, no docstrings."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    coded = {
        line
        for token in tokens
        if token.type not in _BLANK
        for line in range(token.start[0], token.end[0] + 1)
    }
    lines = text.splitlines()
    return [lines[number - 1] for number in sorted(coded - set(_docstrings(text)))]


def _docstrings(text: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def lines_of(sources: Sequence[str]) -> list[str]:
    return [line for source in sources for line in code_lines(EXAMPLES / source)]


def test_blank_lines_comments_and_docstrings_do_not_count(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text('"""Two\n\nlines."""\n\n# Why.\nx = (\n    1\n)  # one\n\ny = """a\nb"""\n')

    lines = code_lines(source)

    assert lines == ["x = (", "    1", ")  # one", 'y = """a', 'b"""']


@pytest.mark.parametrize("name", SOURCES)
def test_an_application_with_finch_is_under_fifty_lines(name: str) -> None:
    lines = lines_of(SOURCES[name])

    assert 20 < len(lines) < 50


@pytest.mark.parametrize("name", SOURCES)
def test_finch_takes_under_ten_of_them(name: str) -> None:
    lines = lines_of([*SOURCES[name], *ALSO.get(name, [])])

    named = [line for line in lines if "finch" in line.lower()]

    assert 3 < len(named) < 10
