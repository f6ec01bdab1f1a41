"""``finch-middleware refresh``: asks Finch about connections, for a timer."""

from __future__ import annotations

import re
import sys
from collections import Counter
from datetime import timedelta

import click

from finch_middleware.cli.deployment import app_option, load_component, shard_option
from finch_middleware.storage.shards import Shard

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_ROWS_PER_LINE = 100


def _duration(ctx: click.Context, parameter: click.Parameter, text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found is None:
        raise click.BadParameter("write minutes, hours or days, such as 30m, 12h or 1d")
    return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.option(
    "--older-than",
    default="1d",
    show_default=True,
    callback=_duration,
    help="Only connections not refreshed for this long, such as 30m, 12h or 1d.",
)
@click.option(
    "--per-second",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 3, min_open=True),
    help="Requests to Finch in a second. Finch allows 1,000 in five minutes from one address.",
)
@shard_option
@app_option
def command(
    older_than: timedelta, per_second: float, shard: Shard, application: str | None
) -> None:
    """
    Ask Finch for the status and the entities of connections, and store them.

    Webhooks get lost, so run this once a day from a timer to find connections that need a new
    login. Exit status 1 if Finch did not report the status of some.
    """
    finch = load_component(application)
    so_far = Counter[str]()
    stale = finch.connections.refresh_stale(
        older_than=older_than, per_second=per_second, shard=shard
    )
    for so_far in stale:
        if so_far.total() % _ROWS_PER_LINE == 0:
            click.echo(f"Connections checked so far: {so_far.total()}", err=True)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(so_far.items()))
    click.echo(f"Connections checked: {so_far.total()}." + (f" {counts}." if counts else ""))
    if so_far.keys() & {"finch_refused", "finch_unavailable", "cannot_open"}:
        sys.exit(1)
