"""Each example is one file to copy, short, with all of Finch's part in it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.examples.code_lines import code_lines
from tests.examples.running import COMMANDS, EXAMPLES

SOURCES = {
    name: EXAMPLES
    / {"django_project": "django_project/payroll/views.py", "embedded": "embedded/app.py"}.get(
        name, f"{name}.py"
    )
    for name in COMMANDS
}


@pytest.mark.parametrize("name", SOURCES)
def test_an_example_takes_only_its_page_and_a_server_from_shared(name: str) -> None:
    tree = ast.parse(SOURCES[name].read_text())

    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if (EXAMPLES / f"{node.module}.py").exists()]

    assert {node.module for node in own} == {"shared"}
    assert {alias.name for node in own for alias in node.names} <= {
        "home_page",
        "settings_page",
        "confirmation_page",
        "invited_page",
        "state_of",
        "serve",
        "serve_asgi",
    }


@pytest.mark.parametrize("name", SOURCES)
def test_an_example_is_under_a_hundred_lines_and_few_of_them_mention_finch(name: str) -> None:
    most = 45 if name == "flask_app" else 30  # it has a settings page
    source = SOURCES[name].read_text()
    lines = [source.splitlines()[number - 1] for number in code_lines(source)]

    finchs = [line for line in lines if re.search("finch|Connection|Unavailable", line, re.I)]

    assert 40 < len(lines) < 100
    assert 10 < len(finchs) < most


def test_all_examples_check_the_status_of_a_connection_alike() -> None:
    functions = [
        ast.unparse(node)
        for source in SOURCES.values()
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "with_status"
    ]

    assert len(functions) == len(SOURCES)
    assert len(set(functions)) == 1


def test_blank_lines_comments_and_docstrings_do_not_count() -> None:
    source = '"""Two\n\nlines."""\n\n# Why.\nx = (\n    1\n)  # one\n\ny = """a\nb"""\n'

    assert code_lines(source) == {6, 7, 8, 10, 11}
