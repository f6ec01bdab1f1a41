"""``finch-middleware demo``: the whole flow in a few seconds, or in your own browser."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.cli.demo.app import WEBHOOK_PATH, DemoApp
from finch_middleware.cli.demo.browser import DemoFailed
from finch_middleware.cli.demo.tour import Tour
from finch_middleware.cli.deployment import without_password
from finch_middleware.cli.serving import listen, serve, until_interrupted, wait_for_interrupt
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

_PATH = "/finch/callback"
_FAKE_NOTICE = "A demo of finch-middleware with a fake Finch. Nothing here is real."
_REAL_NOTICE = "A demo of finch-middleware with the real Finch. What you connect here is real."
_NEXT = "Try it yourself with `finch-middleware demo --serve`, or follow docs/first_connection.md."


@click.command()
@click.option("--serve", is_flag=True, help="Keep the demo running for your browser until Ctrl-C.")
@click.option("--real", is_flag=True, help="Use the real Finch, in your browser, until Ctrl-C.")
@click.option(
    "--storage", "url", metavar="URL", help="Use this database instead of a temporary SQLite file."
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder so that you can inspect it.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the application.  [default: a free one; 5000 with --real]",
)
@click.option(
    "--sandbox",
    type=click.Choice(["finch", "provider", "none"]),
    help="With --real: the sandbox of Finch to use.  [default: FINCH_SANDBOX, or finch]",
)
def command(
    serve: bool, real: bool, url: str | None, port: int | None, sandbox: str | None, keep: bool
) -> None:
    """
    Show a connection's life, from the connect button to its end, and what is refused on the way.

    The demo starts a fake Finch and a small application on this machine, opens them with a
    browser of its own, and prints what it observes. Exit status: 0 if everything was as
    promised, 1 if not, 2 if the demo could not start.
    """
    if real and keep:
        raise click.UsageError("--keep has no effect with --real, which has no temporary folder.")
    if sandbox and not real:
        raise click.UsageError("--sandbox needs --real: the fake Finch has no sandbox.")
    if real:
        settings = _real_settings(url, sandbox=sandbox)
        return _serve(settings, port=5000 if port is None else port)
    folder = Path(tempfile.mkdtemp(prefix="finch-demo-"))
    url = url or f"sqlite:///{folder}/finch.db"
    try:
        # In a database that is kept, a new client_id hides the rows of earlier runs.
        with FakeFinch(client_id=f"demo-{secrets.token_hex(4)}") as fake:
            settings = _fake_settings(fake, url, folder=folder)
            if serve:
                return _serve(settings, port=port or 0, fake=fake)
            observed = _observe(fake, settings, port=port or 0, log=folder / "application.log")
        keep |= not observed  # the log has the reason
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"The files of this run are in {folder}" if keep else _NEXT)
    sys.exit(0 if observed else 1)


def _fake_settings(fake: FakeFinch, url: str, *, folder: Path) -> dict[str, str]:
    """Settings for a run that uses no setting of this machine."""
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_KEY": new_key("demo"),
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": url,
        "FINCH_SPOOL": str(folder / "spool"),
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_WEBHOOK_SECRETS": new_key("webhooks").partition(":")[2],
    }


def _real_settings(url: str | None, *, sandbox: str | None) -> dict[str, str]:
    """The settings of this machine; defaults for all but the Finch account."""
    given = {name: value for name, value in os.environ.items() if value}
    chosen = {"FINCH_STORAGE_URL": url, "FINCH_SANDBOX": sandbox}
    settings = {
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": "sqlite:///finch-demo.db",
        "FINCH_SANDBOX": "finch",
        "FINCH_KEY": new_key("demo"),
        **given,
        **{name: value for name, value in chosen.items() if value},
    }
    if settings["FINCH_SANDBOX"] == "none":
        click.echo("Without a sandbox, connections are real, and Finch bills them.")
        del settings["FINCH_SANDBOX"]
    if "FINCH_KEY" not in given:
        click.echo("FINCH_KEY is not set: the tokens of this run cannot be decrypted afterwards.")
    return settings


def _observe(fake: FakeFinch, settings: Mapping[str, str], *, port: int, log: Path) -> bool:
    """Print every observation; False if one is not as promised."""
    began = time.monotonic()
    kind, _, path = settings["FINCH_STORAGE_URL"].partition(":///")
    logging.basicConfig(filename=log, level=logging.INFO)
    with _run_application(settings, port=port, fake=fake) as (address, finch):
        tour = Tour(
            application=address,
            finch=finch,
            fake=fake,
            database=Path(path.partition("?")[0]) if kind == "sqlite" else None,
            log=log,
            hidden={
                "encryption key": settings["FINCH_KEY"].partition(":")[2],
                "client secret": settings["FINCH_CLIENT_SECRET"],
                "webhook secret": settings["FINCH_WEBHOOK_SECRETS"],
            },
        )
        try:
            tour.run()
        except DemoFailed as failure:
            click.secho(f"\nThe demo stopped. {failure}", fg="red", bold=True)
            return False
    spent = f"The demo took {time.monotonic() - began:.1f} seconds."
    click.secho(f"\nAll {tour.held} observations are as promised. {spent}\n", fg="green", bold=True)
    return True


def _serve(settings: Mapping[str, str], *, port: int, fake: FakeFinch | None = None) -> None:
    logging.basicConfig(level=logging.INFO)
    with until_interrupted(), _run_application(settings, port=port, fake=fake) as (address, _):
        click.echo(f"\nOpen {address} in a browser. Press Ctrl-C to stop.\n")
        wait_for_interrupt()


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
            given = [settings["FINCH_WEBHOOK_SECRETS"]]
            fake.deliver_webhooks(f"{address}{WEBHOOK_PATH}", secrets=given)
        with serve(FinchMiddleware(DemoApp(finch, notice=notice).wsgi_app, finch), listening):
            click.secho(f"{notice}\n", bold=True)
            finch_url = settings.get("FINCH_API_URL", "https://api.tryfinch.com")
            click.echo(f"   Finch          {finch_url}")
            click.echo(f"   application    {address}; its redirect URI is {address}{_PATH}")
            click.echo(f"   database       {without_password(settings['FINCH_STORAGE_URL'])}")
            yield address, finch
