"""``finch-middleware sweep``: what a timer runs every few minutes."""

from __future__ import annotations

import click

from finch_middleware.cli.deployment import app_option, load_component, sweep_summary


@click.command()
@app_option
def command(application: str | None) -> None:
    """
    Recover spooled tokens, end interrupted attempts, make pending calls of on_connected.

    Each interrupted attempt is reported once, to the log and to on_event. Attempts that ended a
    week ago are removed. The sweep sends no request to Finch. Running it twice, or on two
    machines at once, does no harm.
    """
    click.echo(sweep_summary(load_component(application).recovery.sweep()))
