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


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE).as_posix()
        # A fake Finch and a command line compare for tests and people.
        if not name.startswith(("testing/", "cli/")):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _reveals(node: ast.AST) -> bool:
    """Whether the text of a Secret comes out in *node*."""
    found = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
    return any(each.attr in ("reveal", "_text") for each in found)


def _revealed_names(function: ast.FunctionDef) -> set[str]:
    """The function's names that hold what came out of a Secret."""
    assigned = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and _reveals(n.value)]
    targets = [name for each in assigned for target in each.targets for name in ast.walk(target)]
    return {each.id for each in targets if isinstance(each, ast.Name)}


def _names_a_secret(node: ast.expr, *, revealed: set[str]) -> bool:
    """Whether an operand is the text of a secret, or has the name of one."""
    if isinstance(node, ast.Call):
        # Its length, or a match of its form, is none.
        return ast.unparse(node.func).endswith((".reveal", ".encode")) and _reveals(node)
    if isinstance(node, ast.Attribute):
        return node.attr in _SECRET_ATTRIBUTES
    return isinstance(node, ast.Name) and node.id in _SECRET_NAMES | revealed


def _compared(function: ast.FunctionDef) -> Iterator[str]:
    """Every comparison that ends at the first difference, and has a secret for an operand."""
    revealed = _revealed_names(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and any(isinstance(o, _SHORT_CIRCUIT) for o in node.ops):
            sides = (node.left, *node.comparators)
            if any(_names_a_secret(each, revealed=revealed) for each in sides):
                yield ast.unparse(node)


def test_t27_no_secret_is_compared_but_in_constant_time() -> None:
    found = {
        (name, source)
        for name, tree in _sources()
        for function in _functions(tree)
        for source in _compared(function)
        # The state of an attempt is a word of a closed set.
        if "AttemptState." not in source
    }

    assert found == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a.reveal() == b", True),
        ("b != a.reveal()", True),
        ("a.reveal().encode() == b", True),
        ("a._text == b", True),
        ("a.reveal() in known", True),
        ("state != expected", True),
        ("t = a.reveal(); t == b", True),
        ("t = a.reveal(); other == b", False),
        ("a == b", False),
        ("hmac.compare_digest(a.reveal(), b)", False),
        ("pattern.fullmatch(a.reveal()) is None", False),
    ],
)
def test_t27_the_check_finds_a_careless_comparison(line: str, found: bool) -> None:
    [function] = _functions(ast.parse(f"def f(): {line}"))

    assert bool([*_compared(function)]) is found


def _function(file: str, name: str) -> str:
    tree = ast.parse((_PACKAGE / file).read_text(encoding="utf-8"))
    [found] = [node for node in _functions(tree) if node.name == name]
    return ast.unparse(found)


@pytest.mark.parametrize(("file", "function"), [("binding.py", "of_flow"), ("secret.py", "__eq__")])
def test_t27_states_and_secrets_meet_compare_digest(file: str, function: str) -> None:
    assert "compare_digest(" in _function(file, function)


def test_t27_every_ticket_is_compared_whichever_matches() -> None:
    tree = ast.parse(_function("binding.py", "of_flow"))

    early = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.Break)]

    assert early == []
