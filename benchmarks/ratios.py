"""Costs measured in turns, so that a slow moment of the machine slows all, and their ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: What takes seconds: name to a function that returns how many.
Costs = Mapping[str, Callable[[], float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """
    One row of the table.

    Attributes:
        what, against: What was measured, and what it is compared with.
        ratio, least, most: The median of the rounds, and their extremes.
        better: Whether a small ratio or a large one is good: ``less`` or ``more``.
        absolute: Our own cost or rate with its unit; it says little on another machine.
    """

    what: str
    against: str
    ratio: float
    least: float
    most: float
    absolute: str
    better: str = "less"


def seconds(work: Callable[[], object], *, times: int = 1) -> float:
    """The wall time of one call, over *times* of them."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def measured(costs: Costs, *, rounds: int) -> dict[str, list[float]]:
    """Each cost in each round. Every round has another order, since a neighbour may matter."""
    found: dict[str, list[float]] = {name: [] for name in costs}
    names = list(costs)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(costs[name]())
    return found


def line(
    what: str, ours: list[float], theirs: list[float], *, against: str, better: str = "less"
) -> Line:
    """
    The ratio of *ours* to *theirs*, round by round.

    Seconds, or with *better* ``more`` rates a second.
    """
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    middle = statistics.median(ours)
    return Line(
        what=what,
        against=against,
        ratio=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
        better=better,
        absolute=f"{middle:,.0f}/s" if better == "more" else _shown(middle),
    )


def fastest(found: Mapping[str, list[float]], *, but: set[str], better: str = "less") -> str:
    """The name with the best median."""
    medians = {name: statistics.median(each) for name, each in found.items() if name not in but}
    best = max if better == "more" else min
    return best(medians, key=medians.__getitem__)


def _shown(cost: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if cost * factor >= 1:
            return f"{cost * factor:,.1f} {unit}"
    return f"{cost * 1e9:,.0f} ns"
