"""``finch-middleware fake-finch``: a fake Finch for development, until Ctrl-C."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from threading import Event

import click

from finch_middleware.cli.serving import port_unusable, until_interrupted
from finch_middleware.testing.fake_finch import FakeFinch

_CHANGE = '{"status": "reauth"}'


@click.command()
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the fake; 0 takes a free one.",
)
@click.option(
    "--echo-state/--no-echo-state",
    default=True,
    help="Return the state in the redirect flow, or not. Finch does not document it: test both.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="Where events are delivered, such as your application's webhook path.",
)
@click.option(
    "--webhook-secret",
    "webhook_secrets",
    multiple=True,
    metavar="BASE64",
    help="A secret that signs the events; repeat the option for several.",
)
def command(
    port: int, echo_state: bool, webhook_url: str | None, webhook_secrets: tuple[str, ...]
) -> None:
    """
    Serve a fake Finch on this machine: its API, and a Connect page for a browser.

    It behaves as Finch's documentation describes. Nothing is real, and no request leaves this
    machine. Press Ctrl-C to stop it.
    """
    try:
        fake = FakeFinch(
            echo_state=echo_state,
            webhook_url=webhook_url,
            webhook_secrets=webhook_secrets,
            port=port,
        )
    except ValueError as error:
        raise click.UsageError(f"{error} (--webhook-secret)") from None
    with until_interrupted():
        try:
            fake.start()
        except OSError as error:
            raise port_unusable(port, error) from None
        try:
            click.echo(_introduction(fake, webhook_secrets))
            Event().wait()
        finally:
            fake.stop()


def _introduction(fake: FakeFinch, webhook_secrets: Sequence[str]) -> str:
    """Lines that can be pasted into the shell of the application."""
    variables = {
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
    }
    if webhook_secrets:
        variables["FINCH_WEBHOOK_SECRETS"] = ",".join(webhook_secrets)
    return "\n".join(
        [
            f"# A fake Finch is running at {fake.api_url}.",
            "# Nothing here is real, including the client secret.",
            "# Paste these lines into the shell of your application:",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            f"# All requests so far: {fake.api_url}/_fake/ledger",
            "# To change the status of the newest connection and send an event:",
            f"# curl {fake.api_url}/_fake/status --json {shlex.quote(_CHANGE)}",
            "# Press Ctrl-C to stop.",
        ]
    )
