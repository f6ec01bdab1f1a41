"""
What is claimed about speed, measured: ``python -m benchmarks``, in under ten minutes.

Every line is a ratio to something else that was measured in the same run, in turns with it: the
median of the rounds, the smallest and the largest. ``--write`` puts the table and the plot into
the manual. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import logging
import math
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import around, behind_servers, callbacks
from benchmarks.ratios import Line

_MANUAL = Path(__file__).resolve().parent.parent / "docs"

SECTIONS: dict[str, Callable[[], list[Line]]] = {
    "import": around.importing,
    "forward": around.forwarding,
    "gunicorn": lambda: behind_servers.forwarded("gunicorn"),
    "waitress": lambda: behind_servers.forwarded("waitress"),
    "plain": lambda: callbacks.alone("a connection, plain HTTP"),
    "tls": lambda: callbacks.alone("a connection, TLS", tls=True),
    "afar": callbacks.afar,
    "threads-8": lambda: callbacks.threaded(threads=8, tls=True),
    "threads-32": lambda: callbacks.threaded(threads=32),
    "postgresql": lambda: callbacks.in_processes("postgresql"),
    "redis": lambda: callbacks.in_processes("redis"),
    "read-sqlite": lambda: around.reading("sqlite", rows=1_000),
    "read-sqlite-large": lambda: around.reading("sqlite", rows=100_000),
    "read-postgresql": lambda: around.reading("postgresql", rows=1_000),
    "read-postgresql-large": lambda: around.reading("postgresql", rows=100_000),
    "rotate-sqlite": lambda: around.rotating("sqlite"),
    "rotate-postgresql": lambda: around.rotating("postgresql"),
    "beside-sqlite": lambda: around.beside_rotation("sqlite"),
    "beside-postgresql": lambda: around.beside_rotation("postgresql"),
    "attempts-sqlite": lambda: callbacks.beside_attempts("sqlite", rows=20_000),
    "attempts-postgresql": lambda: callbacks.beside_attempts("postgresql", rows=20_000),
}

#: What takes many minutes more: a million rows.
FULL: dict[str, Callable[[], list[Line]]] = {
    f"million-{kind}": partial(callbacks.beside_attempts, kind, rows=1_000_000)
    for kind in ("sqlite", "postgresql")
}


def main() -> None:
    options = _options()
    logging.disable(logging.CRITICAL)
    began, found = time.monotonic(), list[Line]()
    print(_titles())
    sections = SECTIONS | FULL
    for name in options.section or (sections if options.full else SECTIONS):
        for each in sections[name]():
            print(_row(each), flush=True)
            found.append(each)
    print(f"\n{time.monotonic() - began:,.0f} s")
    if options.write:
        _write_table(found)
        _write_plot(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, *FULL, []])
    parser.add_argument("--full", action="store_true", help="also what takes a million rows")
    parser.add_argument("--write", action="store_true", help="the table and plot of the manual")
    return parser.parse_args()


def _titles() -> str:
    return "\n".join(
        (
            "| what | compared with | ratio | lowest to highest | ours |",
            "| --- | --- | ---: | --- | ---: |",
        )
    )


def _row(each: Line) -> str:
    better = " (more is better)" if each.better == "more" else ""
    spread = f"{each.least:.2f} to {each.most:.2f}"
    return (
        f"| {each.what}{better} | {each.against} | {each.ratio:.2f} | {spread} | {each.absolute} |"
    )


def _write_table(found: Sequence[Line]) -> None:
    page = _MANUAL / "performance.md"
    machine = f"{platform.system()}, {platform.machine()}, Python {platform.python_version()}"
    table = "\n".join((_titles(), *map(_row, found)))
    text = re.sub(
        r"(?<=<!-- measured -->\n).*(?=<!-- end -->)",
        lambda _: f"\n{table}\n\nMeasured on {machine}.\n\n",
        page.read_text(),
        flags=re.DOTALL,
    )
    page.write_text(text)


def _write_plot(found: Sequence[Line]) -> None:
    """A bar for each line on a logarithmic axis; left of 1 we are ahead."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "finch"  # the same names in the file each time
    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    labels = [f"{each.what} / {each.against}" for each in found]
    times = [each.ratio if each.better == "less" else 1 / each.ratio for each in found]
    figure, axes = plt.subplots(figsize=(11, 0.32 * len(found) + 1))
    colours = ["#2f7d4f" if each <= 1 else "#b0563b" for each in times]
    axes.barh(labels, [math.log2(each) for each in times], color=colours)
    axes.invert_yaxis()
    axes.axvline(0, color="#444444", linewidth=1)
    marks = range(math.floor(math.log2(min(times))), math.ceil(math.log2(max(times))) + 1)
    axes.set_xticks(list(marks), [f"{2.0**each:g}×" for each in marks])
    axes.set_title("Our time in relation to theirs: left of 1× we are faster")
    picture = _MANUAL / "images" / "performance.svg"
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
