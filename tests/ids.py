"""Names for parametrised tests that are the same in every run."""

from __future__ import annotations


def steady(value: object) -> str:
    """Its repr, without memory addresses and without the random order of a set."""
    if isinstance(value, set):
        return repr(sorted(value))
    shown = repr(value)
    return type(value).__name__ if " at 0x" in shown else shown
