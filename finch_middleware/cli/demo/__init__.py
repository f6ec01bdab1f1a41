"""``finch-middleware demo``: the whole flow in a few seconds, or in your own browser."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import click

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.cli.demo.app import WEBHOOK_PATH, DemoApp
from finch_middleware.cli.demo.tour import DemoFailed, Tour
from finch_middleware.cli.deployment import without_password
from finch_middleware.cli.serving import listen, serve, until_interrupted
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

_PATH = "/finch/callback"
_FAKE_NOTICE = "A demo of finch-middleware with a fake Finch. Nothing here is real."
_REAL_NOTICE = "A demo of finch-middleware with the real Finch. What you connect here is real."
_NEXT = "Try it yourself with `finch-middleware demo --serve`, or follow docs/first_connection.md."


@click.command()
@click.option("--serve", is_flag=True, help="Keep the demo running for your browser until Ctrl-C.")
@click.option("--real", is_flag=True, help="Use Finch's sandbox, in your browser, until Ctrl-C.")
@click.option(
    "--storage", "url", metavar="URL", help="Use this database instead of a temporary SQLite file."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the application.  [default: a free one; 5000 with --real]",
)
def command(serve: bool, real: bool, url: str | None, port: int | None) -> None:
    """
    Show a connection's life, from the connect button to its end, and what is refused on the way.

    The demo starts a fake Finch and a small application on this machine, and prints what a
    browser observes. Exit status: 0 if all was as promised, 1 if not, 2 if it could not start.
    """
    if real:
        return _serve(_real_settings(url), port=5000 if port is None else port)
    # In a database that is kept, a new client_id hides the rows of earlier runs.
    fake = FakeFinch(client_id=f"demo-{secrets.token_hex(4)}")
    with tempfile.TemporaryDirectory(prefix="finch-demo-") as folder, fake:
        settings = _fake_settings(fake, url or f"sqlite:///{folder}/finch.db", folder=folder)
        if serve:
            return _serve(settings, port=port or 0, fake=fake)
        return _observe(fake, settings, port=port or 0, log=Path(folder) / "application.log")


def _fake_settings(fake: FakeFinch, url: str, *, folder: str) -> dict[str, str]:
    """Settings for a run that uses no setting of this machine."""
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_KEY": new_key("demo"),
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": url,
        "FINCH_SPOOL": f"{folder}/spool",
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_WEBHOOK_SECRETS": new_key("webhooks").partition(":")[2],
    }


def _real_settings(url: str | None) -> dict[str, str]:
    """The settings of this machine; defaults for all but the Finch account."""
    settings = {
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": "sqlite:///finch-demo.db",
        "FINCH_SANDBOX": "finch",
        "FINCH_KEY": new_key("demo"),
        **{name: value for name, value in os.environ.items() if value},
        **({"FINCH_STORAGE_URL": url} if url else {}),
    }
    if settings["FINCH_SANDBOX"] == "none":
        click.echo("Without a sandbox, connections are real, and Finch bills them.")
        del settings["FINCH_SANDBOX"]
    if not os.environ.get("FINCH_KEY"):
        click.echo("FINCH_KEY is not set: the tokens of this run cannot be decrypted afterwards.")
    return settings


def _observe(fake: FakeFinch, settings: Mapping[str, str], *, port: int, log: Path) -> None:
    """Print every observation; ends with status 1 if one is not as promised."""
    began = time.monotonic()
    logging.basicConfig(filename=log, level=logging.INFO)
    with _run_application(settings, port=port, fake=fake) as (address, finch):
        tour = Tour(application=address, finch=finch, fake=fake, settings=settings, log=log)
        try:
            tour.run()
        except DemoFailed as failure:
            click.secho(f"\nThe demo stopped. {failure}", fg="red", bold=True)
            click.echo(f"The log of the application:\n{log.read_text('utf-8')}", err=True)
            sys.exit(1)
    spent = f"The demo took {time.monotonic() - began:.1f} seconds."
    click.secho(f"\nAll {tour.held} observations are as promised. {spent}\n", fg="green", bold=True)
    click.echo(_NEXT)


def _serve(settings: Mapping[str, str], *, port: int, fake: FakeFinch | None = None) -> None:
    logging.basicConfig(level=logging.INFO)
    with until_interrupted(), _run_application(settings, port=port, fake=fake) as (address, _):
        click.echo(f"\nOpen {address} in a browser. Press Ctrl-C to stop.\n")
        Event().wait()


@contextmanager
def _run_application(
    settings: Mapping[str, str], *, port: int, fake: FakeFinch | None
) -> Iterator[tuple[str, FinchConnect]]:
    """The application while the block runs: its address and its component."""
    notice = _REAL_NOTICE if fake is None else _FAKE_NOTICE
    with listen(port) as listening:
        address = f"http://localhost:{listening.getsockname()[1]}"
        finch = FinchConnect.from_env(
            settings,
            redirect_uri=address + _PATH,
            callback_path=_PATH,
            webhook_path=WEBHOOK_PATH if settings.get("FINCH_WEBHOOK_SECRETS") else None,
            brand="Finch demo",
        )
        finch.storage.check()
        if fake is not None:
            signing = [settings["FINCH_WEBHOOK_SECRETS"]]
            fake.deliver_webhooks(address + WEBHOOK_PATH, secrets=signing)
        with serve(FinchMiddleware(DemoApp(finch, notice=notice).wsgi_app, finch), listening):
            click.secho(f"{notice}\n", bold=True)
            click.echo(f"   application    {address}; its redirect URI is {address}{_PATH}")
            click.echo(f"   database       {without_password(settings['FINCH_STORAGE_URL'])}")
            yield address, finch
