"""Which lines of a file are code."""

from __future__ import annotations

import ast
import io
import tokenize

_BLANK = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(text: str) -> set[int]:
    """The numbers of the lines of code: no blank ones, no comments, no docstrings."""
    coded = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _BLANK
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                coded -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return coded
