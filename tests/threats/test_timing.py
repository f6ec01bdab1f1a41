"""T27: where secrets are compared. A check of the syntax tree: no clock can show it reliably."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import finch_middleware

_PACKAGE = Path(finch_middleware.__file__).parent
_SHORT_CIRCUIT = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)

#: Names under which this library's code holds a secret.
_SECRET_NAMES = frozenset({"secret", "state", "token", "cookie", "material", "digest", "given"})
_SECRET_ATTRIBUTES = _SECRET_NAMES | {"_text"}

#: Comparisons that are none of secrets: (file, source), each with its reason.
_ARGUED = {
    # The name of an error, from the request: public, and a Secret only so that no log shows it.
    ("returns.py", "error.reveal() == 'access_denied'"),
}


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE).as_posix()
        # A fake Finch and a command line compare for tests and people.
        if not name.startswith(("testing/", "cli/")):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _names_a_secret(node: ast.expr) -> bool:
    """Whether an operand is the text of a secret, or is called like one."""
    if isinstance(node, ast.Call):
        function = node.func
        return isinstance(function, ast.Attribute) and function.attr == "reveal"
    if isinstance(node, ast.Attribute):
        return node.attr in _SECRET_ATTRIBUTES
    return isinstance(node, ast.Name) and node.id in _SECRET_NAMES


def _compared(tree: ast.Module) -> Iterator[str]:
    """Every comparison that ends at the first difference, and has a secret for an operand."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(operator, _SHORT_CIRCUIT) for operator in node.ops):
            continue
        if any(_names_a_secret(each) for each in (node.left, *node.comparators)):
            yield ast.unparse(node)


def _is_harmless(source: str) -> bool:
    """Whether it asks for the state of an attempt, which is a word of a closed set."""
    return "AttemptState." in source


def test_t27_no_secret_is_compared_but_in_constant_time() -> None:
    found = {
        (name, source)
        for name, tree in _sources()
        for source in _compared(tree)
        if not _is_harmless(source)
    }

    assert found - _ARGUED == set()


@pytest.mark.parametrize(
    "source",
    ["given.reveal() == ticket.state.reveal()", "state != expected", "token in tokens"],
)
def test_t27_the_check_finds_a_careless_comparison(source: str) -> None:
    assert list(_compared(ast.parse(source))) == [source]


def _function(file: str, name: str) -> str:
    tree = ast.parse((_PACKAGE / file).read_text(encoding="utf-8"))
    [found] = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    return ast.unparse(found)


@pytest.mark.parametrize(
    ("file", "function"), [("tickets.py", "with_state"), ("secret.py", "__eq__")]
)
def test_t27_states_and_secrets_meet_compare_digest(file: str, function: str) -> None:
    assert "compare_digest(" in _function(file, function)


def test_t27_every_ticket_is_compared_whichever_matches() -> None:
    tree = ast.parse(_function("tickets.py", "with_state"))

    early = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.Break)]

    assert early == []
