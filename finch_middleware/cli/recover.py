"""``finch-middleware recover``: attempts that a person has to act on."""

from __future__ import annotations

import click

from finch_middleware.attempts import Attempt
from finch_middleware.cli.deployment import app_option, load_component, sweep_summary
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, FinchFault


@click.command()
@click.option(
    "--quarantined",
    is_flag=True,
    help="List the tokens in quarantine, and ask Finch for their owner: a token is stored if "
    "Finch confirms the customer, and stays in quarantine otherwise.",
)
@app_option
def command(quarantined: bool, application: str | None) -> None:
    """
    Run a sweep, and list interrupted attempts, whose customers have to connect again.

    Finch may have created a connection for such an attempt, whose token is lost: look for the
    customer in Finch's dashboard. An attempt is listed once; after that, only the log has it.
    """
    finch = load_component(application)
    if quarantined:
        return _complete_quarantined(finch)
    swept = finch.recovery.sweep()
    for attempt in swept.drained:
        click.echo(f"{describe(attempt)}  recovered from the spool: {attempt.state.value}")
    for attempt in swept.interrupted:
        click.echo(f"{describe(attempt)}  interrupted")
    return click.echo(sweep_summary(swept))


def _complete_quarantined(finch: FinchConnect) -> None:
    found = finch.recovery.quarantined()
    completed = 0
    for attempt in found:
        result = _complete(finch, attempt)
        completed += result == "completed"
        click.echo(f"{describe(attempt)}  {attempt.reason}: {result}")
    click.echo(f"Tokens in quarantine: {len(found)}. Completed now: {completed}.")


def _complete(finch: FinchConnect, attempt: Attempt) -> str:
    """Try to complete a quarantined attempt; the result in a few words."""
    try:
        completed = finch.recovery.complete(attempt)
    except CannotOpen as error:
        return f"its key {error.key_id} is not an accepted key"
    except FinchFault as fault:
        return f"Finch did not confirm the customer ({fault.reason})"
    return "completed" if completed else "it belongs to another customer"


def describe(attempt: Attempt) -> str:
    """Time, reference and customers of an attempt, and the id that Finch's support asks for."""
    customers = ", ".join(map(repr, attempt.customer_ids))
    text = f"{attempt.claimed_at:%Y-%m-%d %H:%M:%S} UTC  {attempt.reference}  {customers}"
    if attempt.request_id is None:
        return text
    return f"{text}  Finch-Request-Id {attempt.request_id}"
