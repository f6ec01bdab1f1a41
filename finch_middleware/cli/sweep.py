"""``finch-middleware sweep``: what a timer does, every few minutes."""

from __future__ import annotations

import click

from finch_middleware.cli.deployment import of_application, summary, taking_application


@click.command()
@taking_application
def command(application: str | None) -> None:
    """
    Bring spooled tokens home, end what was interrupted, call on_connected where it is owed.

    Each interrupted attempt is reported by one sweep only, to the log and to on_event. Attempts
    that ended a week ago are forgotten. Nothing is asked of Finch; running it twice, or on
    two machines at once, does no harm.
    """
    click.echo(summary(of_application(application).recovery.sweep()))
