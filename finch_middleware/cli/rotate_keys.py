"""``finch-middleware rotate-keys``: every stored token under the present key."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping

import click

from finch_middleware.cli.deployment import of_application, taking_application, unreadable
from finch_middleware.connect import FinchConnect
from finch_middleware.operations.rotation import Rotated

# Plain lines go to logs: one for each so many rows.
_ROWS_A_LINE = 10_000


@click.command()
@click.option(
    "--check", is_flag=True, help="Only count what another key has sealed; status 1 if any."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@taking_application
def command(check: bool, dry_run: bool, application: str | None) -> None:
    """
    Re-seal what an accepted key has sealed with the present one, while the application runs.

    Run it when every process has the new key as FINCH_KEY and the old one among
    FINCH_ACCEPTED_KEYS. It may be stopped at any moment and started again, and goes on where it
    was. The old key can go when --check finds nothing, here and on every host with a spool.
    """
    finch = of_application(application)
    census = finch.rotation.census()
    old = finch.rotation.outdated(census)
    click.echo(f"{_counted(census.keys)}; the present key is {finch.vault.key_id}")
    if check or dry_run:
        _told(old, spooled=census.spooled, present=finch.vault.key_id)
        _name_unreadable(census.unreadable)
        sys.exit(1 if check and (old or census.unreadable) else 0)
    rotated = _run(finch, rows=census.rows)
    click.echo(f"{rotated.resealed} re-sealed with {finch.vault.key_id}, {rotated.seen} looked at")
    for key_id, count in sorted(rotated.unopened.items()):
        click.echo(
            f"{count} under {key_id or 'no readable key'} did not open: that key is not among the "
            "accepted ones, or the rows were altered",
            err=True,
        )
    _name_unreadable(rotated.unreadable)
    if rotated.unopened or rotated.unreadable:
        sys.exit(1)


def _name_unreadable(names: Collection[str]) -> None:
    if names:
        click.echo(f"{unreadable(names)}: under which key they are is not known", err=True)


def _told(old: int, *, spooled: Mapping[str, int], present: str) -> None:
    waiting = sum(count for key_id, count in spooled.items() if key_id != present)
    click.echo(f"{old} under another key than {present}")
    if waiting:
        click.echo(f"{waiting} of them wait in this host's spool: run `finch-middleware sweep`")


def _run(finch: FinchConnect, *, rows: int) -> Rotated:
    """Rotate, with a bar on a terminal and a line now and then elsewhere."""
    steps = finch.rotation.run()
    return _with_bar(steps, rows=rows) if sys.stdout.isatty() else _with_lines(steps, rows=rows)


def _with_bar(steps: Iterator[Rotated], *, rows: int) -> Rotated:
    try:
        from rich.progress import MofNCompleteColumn, Progress
    except ImportError:
        return _with_plain_bar(steps, rows=rows)
    rotated = Rotated()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("Re-sealing", total=rows)
        for rotated in steps:
            progress.update(task, completed=rotated.seen)
    return rotated


def _with_plain_bar(steps: Iterator[Rotated], *, rows: int) -> Rotated:
    rotated = Rotated()
    with click.progressbar(length=rows, label="Re-sealing", show_pos=True) as bar:
        for step in steps:
            bar.update(step.seen - rotated.seen)
            rotated = step
    return rotated


def _with_lines(steps: Iterator[Rotated], *, rows: int) -> Rotated:
    rotated = Rotated()
    for step in steps:
        if step.seen // _ROWS_A_LINE > rotated.seen // _ROWS_A_LINE:
            click.echo(f"{step.seen} of about {rows} looked at, {step.resealed} re-sealed")
        rotated = step
    return rotated


def _counted(keys: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} under {key_id or '?'}" for key_id, count in sorted(keys.items()))
    return told or "nothing is sealed yet"
