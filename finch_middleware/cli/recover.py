"""``finch-middleware recover``: what a fault left behind, for a person who acts on it."""

from __future__ import annotations

import click

from finch_middleware.attempts import Attempt
from finch_middleware.cli.deployment import of_application, summary, taking_application
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, FinchFault


@click.command()
@click.option(
    "--quarantined",
    is_flag=True,
    help="List the tokens that nobody could be given, and ask Finch whose they are: what it "
    "explains is completed, the rest stays.",
)
@taking_application
def command(quarantined: bool, application: str | None) -> None:
    """
    Sweep, and list each attempt that a crash left behind: the person has to connect again.

    Finch may have made a connection for such an attempt that nobody holds the token of: look
    for its customer in Finch's dashboard. An attempt is listed once; afterwards the log has it.
    """
    finch = of_application(application)
    if quarantined:
        _quarantined(finch)
    else:
        _left_behind(finch)


def _left_behind(finch: FinchConnect) -> None:
    swept = finch.recovery.sweep()
    for attempt in swept.drained:
        click.echo(f"{told(attempt)}  brought home from the spool as {attempt.state.value}")
    for attempt in swept.interrupted:
        click.echo(f"{told(attempt)}  interrupted")
    click.echo(summary(swept))


def _quarantined(finch: FinchConnect) -> None:
    found = finch.recovery.quarantined()
    completed = 0
    for attempt in found:
        word = _completed(finch, attempt)
        completed += word == "completed"
        click.echo(f"{told(attempt)}  {attempt.reason}: {word}")
    click.echo(f"{len(found)} quarantined, {completed} of them completed")


def _completed(finch: FinchConnect, attempt: Attempt) -> str:
    """What became of a quarantined attempt, in a few words."""
    try:
        completed = finch.recovery.complete(attempt)
    except CannotOpen as error:
        return f"its key {error.key_id} is not among the accepted ones"
    except FinchFault as fault:
        return f"Finch did not explain it ({fault.reason})"
    return "completed" if completed else "not the customer's who began"


def told(attempt: Attempt) -> str:
    """Time, reference and customers of an attempt, and what Finch's support asks for."""
    customers = ", ".join(map(repr, attempt.customer_ids))
    text = f"{attempt.claimed_at:%Y-%m-%d %H:%M:%S} UTC  {attempt.reference}  {customers}"
    if attempt.request_id is None:
        return text
    return f"{text}  Finch-Request-Id {attempt.request_id}"
