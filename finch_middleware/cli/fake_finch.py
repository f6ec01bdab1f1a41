"""``finch-middleware fake-finch``: a Finch of one's own, until Ctrl-C."""

from __future__ import annotations

import shlex

import click

from finch_middleware.cli import Fault
from finch_middleware.cli.serving import until_interrupted, wait_while
from finch_middleware.testing.fake_finch import FakeFinch


@click.command()
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: a free one."
)
@click.option("--client-id", default="client-fake", show_default=True, help="Made up, of course.")
@click.option(
    "--client-secret",
    default="secret-of-client-fake",
    show_default=True,
    help="Made up as well: never give it a real one.",
)
@click.option(
    "--redirect-uri",
    "redirect_uris",
    multiple=True,
    metavar="URI",
    help="Registered; may be given several times. Without it any passes that Finch would register.",
)
@click.option(
    "--echo-state/--no-echo-state",
    default=True,
    help="Whether the redirect flow hands the state back. Nobody knows it of Finch; try both.",
)
def command(
    port: int,
    client_id: str,
    client_secret: str,
    redirect_uris: tuple[str, ...],
    echo_state: bool,
) -> None:
    """
    Serve a fake Finch on this machine: its API, and a Connect page for a browser.

    It behaves as Finch's documentation says. Nothing in it is real, nothing leaves this
    machine. Ctrl-C stops it.
    """
    fake = FakeFinch(
        client_id=client_id,
        client_secret=client_secret,
        redirect_uris=redirect_uris or None,
        echo_state=echo_state,
        port=port,
    )
    with until_interrupted():
        _start(fake, port=port)
        try:
            click.echo(_introduction(fake))
            wait_while(lambda: True)
        finally:
            fake.stop()


def _start(fake: FakeFinch, *, port: int) -> None:
    try:
        fake.start()
    except OSError as error:
        raise Fault(
            f"port {port} cannot be used ({error.strerror}): stop what holds it, "
            "or choose another with --port"
        ) from None


def _introduction(fake: FakeFinch) -> str:
    """What to paste into the shell of the application."""
    variables = {
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
    }
    return "\n".join(
        [
            f"# A fake Finch is up at {fake.api_url}. Nothing in it is real, the secret neither.",
            "# For the application under development, in its own shell:",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            f"# What it was asked so far: {fake.api_url}/_fake/ledger",
            "# Ctrl-C stops it.",
        ]
    )
