"""What the demo prints: steps, and under each what was observed, held against what is promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import click

from finch_middleware.cli.demo_browser import Deviation

WIDTH = 100
_LABEL_WIDTH = 38

#: The promise of a fact that is only told.
NOTHING = object()


@dataclass(frozen=True, slots=True)
class Fact:
    """
    One observation.

    Attributes:
        promised: What it has to equal; NOTHING where it is only told.
    """

    label: str
    _: KW_ONLY
    seen: object
    promised: object = NOTHING

    @property
    def holds(self) -> bool:
        """Whether it is as promised."""
        return self.promised is NOTHING or self.seen == self.promised


@dataclass(frozen=True, slots=True)
class Step:
    """
    A part of the story with its facts.

    Attributes:
        measured: A request and how long it took, or empty.
    """

    title: str
    _: KW_ONLY
    measured: str = ""
    facts: Sequence[Fact]


class Report:
    """
    Prints step by step.

    Attributes:
        held: How many promises held so far.
    """

    def __init__(self, echo: Callable[[str], None] = click.echo) -> None:
        self._echo = echo
        self._number = 0
        self.held = 0

    def tell(self, step: Step) -> None:
        """
        Print *step*.

        Raises:
            Deviation: One of its facts is not as promised; all of them were printed.
        """
        self._number += 1
        title = f"{self._number}. {step.title}"
        gap = " " * max(2, WIDTH - len(title) - len(step.measured))
        self._echo("")
        timing = gap + click.style(step.measured, dim=True) if step.measured else ""
        self._echo(click.style(title, bold=True) + timing)
        for fact in step.facts:
            self._echo(_line(fact))
        if broken := [fact.label for fact in step.facts if not fact.holds]:
            raise Deviation(f"not as promised in step {self._number}: {', '.join(broken)}")
        self.held += sum(fact.promised is not NOTHING for fact in step.facts)


def pairs(rows: Sequence[tuple[str, object]]) -> str:
    """Aligned lines of a name and a value."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"   {name:<{width}}   {value}" for name, value in rows)


def _line(fact: Fact) -> str:
    label = f"{fact.label:<{_LABEL_WIDTH}}"
    if fact.promised is NOTHING:
        return f"       {label} {_clipped(fact.seen)}"
    if fact.holds:
        return f"   {click.style('ok', fg='green')}  {label} {_clipped(fact.seen)}"
    said = f"   NO  {label} {fact.seen}, but {fact.promised} is promised"
    return click.style(said, fg="red", bold=True)


def _clipped(seen: object) -> str:
    text, room = str(seen), WIDTH - _LABEL_WIDTH - 8
    return text if len(text) <= room else f"{text[: room - 3]}..."
