"""
Which lines of a file are there because of Finch: those that would go if Finch went.

- An import from `finch_middleware`, and every statement that mentions a name of Finch's, or the
  word in a string, with all of its lines. Of a list over several lines, those entries alone.
- A function that mentions one, from its decorators to its end: the views, `customer_of`, what
  converts an answer. Its name is then Finch's too. `OWN` names the exceptions, which would be
  there without Finch: of them, what mentions it.
- What only such lines use: an import, a function.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator

#: Parts of an application that stay when Finch goes: the page, and what holds everything.
OWN = {"create_app", "app", "view", "home", "Payroll", "on_get"}

_BLANK = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
_Definition = ast.FunctionDef | ast.ClassDef
_COMPOUND = ast.For | ast.If | ast.Match | ast.match_case | ast.Try | ast.With


def code_lines(text: str) -> set[int]:
    """The numbers of the lines of code: no blank ones, no comments, no docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    coded = {
        line
        for token in tokens
        if token.type not in _BLANK
        for line in range(token.start[0], token.end[0] + 1)
    }
    return coded - {line for node in _docstrings(ast.parse(text)) for line in _lines(node)}


def finch_lines(text: str) -> set[int]:
    """The numbers of the lines of code that are there because of Finch."""
    tree, names = ast.parse(text), set[str]()
    while more := set(_named(tree, names)) - names:
        names |= more
    docstrings = {id(node) for node in _docstrings(tree)}
    parts = [part for part in _parts(tree, names) if id(part) not in docstrings]
    found = {line for part in parts for line in _lines(part)}
    while more_lines := {n for each in _idle_without(tree, found) for n in _lines(each)} - found:
        found |= more_lines
    return found & code_lines(text)


def _named(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """What is imported from the package, what that makes, and each function of Finch's."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=imported) if _package(module):
                yield from map(_name, imported)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=made)):
                if _mentions(made, names):
                    yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if name not in OWN:
                if _mentions(node, names):
                    yield name


def _parts(tree: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """The smallest parts that mention Finch and go whole: entries, statements, functions."""
    for node in ast.iter_child_nodes(tree):
        if not _mentions(node, names):
            continue
        if _stays(node) or (isinstance(node, ast.Assign) and _is_table(node.value)):
            yield from _parts(node, names)
        else:
            yield node


def _stays(node: ast.AST) -> bool:
    """Whether only parts of it go."""
    if isinstance(node, _Definition):
        return node.name in OWN
    return isinstance(node, _COMPOUND) or _is_table(node)


def _is_table(node: ast.AST) -> bool:
    return isinstance(node, ast.List | ast.Tuple) and len(_lines(node)) > 1


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(_is_finchs(each, names) for each in ast.walk(node))


def _is_finchs(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.ImportFrom(module=str(module)):
            return _package(module)
        case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name in names
        case ast.Attribute(attr=name):  # of another file of the project
            return "finch" in name
        case ast.Constant(value=str(value)):
            return "finch" in value.lower()
    return False


def _idle_without(tree: ast.AST, found: set[int]) -> Iterator[ast.AST]:
    """The imports and functions that only the lines in *found* use."""
    used: dict[str, set[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.setdefault(node.id, set()).add(node.lineno)
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=imported) if module != "__future__":
                names = set(map(_name, imported))
            case ast.Import(names=imported):
                names = set(map(_name, imported))
            case ast.FunctionDef(name=name) if name not in OWN and not node.decorator_list:
                names = {name}
            case _:
                continue
        if all(name in used and used[name] <= found for name in names):
            yield node


def _name(imported: ast.alias) -> str:
    return imported.asname or imported.name


def _package(module: str) -> bool:
    return module.partition(".")[0] == "finch_middleware"


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                yield node


def _lines(node: ast.AST) -> range:
    decorators = getattr(node, "decorator_list", [])
    first = min([node, *decorators], key=lambda each: each.lineno)
    return range(first.lineno, (node.end_lineno or node.lineno) + 1)
