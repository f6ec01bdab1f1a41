"""``finch-middleware demo``: the whole flow in a few seconds, or for a person with a browser."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from finch_middleware import FinchConnect, __version__
from finch_middleware.cli import Fault
from finch_middleware.cli.demo_app import EMPLOYERS
from finch_middleware.cli.demo_browser import Deviation
from finch_middleware.cli.demo_processes import CALLBACK_PATH, CannotServe, ServerProcess
from finch_middleware.cli.demo_report import Report, pairs
from finch_middleware.cli.demo_tour import Scene, Tour
from finch_middleware.cli.demo_traces import Traces
from finch_middleware.cli.deployment import without_password
from finch_middleware.cli.serving import until_interrupted, wait_while
from finch_middleware.crypto.keys import new_key

_REAL_PORT = 5000
_FAKE_NOTICE = "A demo of finch-middleware with a fake Finch. Nothing here is real."
_REAL_NOTICE = "A demo of finch-middleware with Finch itself. What you connect here is real."


@click.command()
@click.option("--serve", is_flag=True, help="Keep it up for a browser, until Ctrl-C.")
@click.option("--real", is_flag=True, help="Use Finch itself; serves for a browser.")
@click.option(
    "--storage", "url", metavar="URL", help="Store there, not in a temporary SQLite file."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Of the application; 0: a free one.")
@click.option(
    "--sandbox",
    type=click.Choice(["finch", "provider", "none"]),
    help="With --real: which of Finch's sandboxes to connect.  [default: FINCH_SANDBOX, or finch]",
)
@click.option("--keep", is_flag=True, help="Leave the temporary folder for a look at its files.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    serve: bool,
    real: bool,
    url: str | None,
    port: int | None,
    sandbox: str | None,
    keep: bool,
) -> None:
    """
    Show the whole flow: from the connect button to the stored token, and what cannot happen.

    A fake Finch and a small application start on this machine, each in a process of its own,
    and a browser of the demo's own goes through it all. What is printed was observed. The
    exit status is 0 only if everything was as promised.
    """
    if real and keep:
        raise click.UsageError("--keep goes without --real: nothing is temporary there.")
    if real:
        environ = _real_environ(url, sandbox=sandbox)
        return _serve_real(environ, port=_REAL_PORT if port is None else port)
    if sandbox is not None:
        raise click.UsageError("--sandbox goes with --real: the fake Finch has none.")
    with ExitStack() as stack:
        folder = _temporary_folder(stack, keep=keep)
        environ = _fake_environ(url or f"sqlite:///{folder}/finch.db", folder=folder)
        if serve:
            return _serve_fake(environ, port=port or 0)
        gone = url is None and not keep
        if not _toured(environ, folder=folder, port=port or 0, gone=gone):
            # Whoever asks why needs the log.
            stack.pop_all()
            ctx.exit(1)
    return None


def _temporary_folder(stack: ExitStack, *, keep: bool) -> Path:
    """A folder of this run, which goes with *stack*."""
    folder = Path(tempfile.mkdtemp(prefix="finch-demo-"))
    if not keep:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _fake_environ(url: str, *, folder: Path) -> dict[str, str]:
    """The settings of a run that has nothing to do with any setting of this machine."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FINCH_")}
    return own | {
        # Of this run alone: in a database that stays, runs do not see each other's rows.
        "FINCH_CLIENT_ID": f"demo-{secrets.token_hex(4)}",
        "FINCH_CLIENT_SECRET": secrets.token_urlsafe(24),
        "FINCH_KEY": new_key("demo"),
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": url,
        "FINCH_SPOOL": str(folder / "spool"),
        "FINCH_DEMO_NOTICE": _FAKE_NOTICE,
    }


def _real_environ(url: str | None, *, sandbox: str | None) -> dict[str, str]:
    """
    The settings of this machine, completed.

    Raises:
        Fault: Nobody said who this is to Finch.
    """
    given = {name: value for name, value in os.environ.items() if value}
    missing = [n for n in ("FINCH_CLIENT_ID", "FINCH_CLIENT_SECRET") if n not in given]
    if missing:
        raise Fault(
            f"--real needs {' and '.join(missing)} in the environment: they stand in Finch's "
            "dashboard. Without an account, try the demo without --real."
        )
    # Other addresses than the demo's own would not lead back to it.
    for name in ("FINCH_REDIRECT_URI", "FINCH_CALLBACK_PATH"):
        given.pop(name, None)
    defaults = {
        "FINCH_PRODUCTS": "company directory",
        "FINCH_STORAGE_URL": "sqlite:///finch-demo.db",
        "FINCH_SANDBOX": "finch",
        "FINCH_KEY": new_key("demo"),
        "FINCH_DEMO_NOTICE": _REAL_NOTICE,
    }
    chosen = {"FINCH_STORAGE_URL": url, "FINCH_SANDBOX": sandbox}
    environ = defaults | given | {name: value for name, value in chosen.items() if value}
    if environ["FINCH_SANDBOX"] == "none":
        del environ["FINCH_SANDBOX"]
    return environ


@contextmanager
def _fake_servers(
    environ: Mapping[str, str], *, port: int, log: Path | None = None
) -> Iterator[tuple[ServerProcess, ServerProcess, dict[str, str]]]:
    """The fake Finch and the application, up, and the environment that connects them."""
    with ExitStack() as stack:
        written = stack.enter_context(log.open("wb")) if log else None
        finch = stack.enter_context(ServerProcess("finch", environ=environ, log=written))
        whole = {
            **environ,
            "FINCH_API_URL": finch.address,
            "FINCH_CONNECT_ORIGIN": finch.address,
        }
        application = stack.enter_context(
            ServerProcess("application", environ=whole, port=port, log=written)
        )
        yield finch, application, whole


def _toured(environ: Mapping[str, str], *, folder: Path, port: int, gone: bool) -> bool:
    """
    Whether everything was as promised; printed as it was observed.

    *gone*: the database is not there afterwards.
    """
    if environ["FINCH_STORAGE_URL"].startswith("memory:"):
        raise Fault("memory:// lives inside one process, where the demo cannot look: use --serve")
    began = time.monotonic()
    log = folder / "application.log"
    report = Report()
    _require_usable(environ)
    click.echo(f"finch-middleware {__version__}: from the connect button to the stored token\n")
    try:
        with _fake_servers(environ, port=port, log=log) as (finch, application, whole):
            click.echo(_places(finch, application, whole))
            Tour(_scene(finch, application, whole, log=log), tell=report.tell).run()
    except (Deviation, CannotServe) as deviation:
        said = f"\nThe demo ends here. {deviation}\nThe application's log: {log}"
        click.secho(said, fg="red", bold=True)
        return False
    place = _KEEP_IT if gone else _place_of(environ["FINCH_STORAGE_URL"])
    click.echo(_ending(report, place=place, seconds=time.monotonic() - began))
    return True


def _require_usable(environ: Mapping[str, str]) -> None:
    """
    Return when the storage could take a claim; SQLite's tables are made on the way.

    Raises:
        ConfigurationError, StorageFault: It could not.
    """
    redirect_uri = f"http://localhost{CALLBACK_PATH}"
    FinchConnect.from_env(environ, redirect_uri=redirect_uri).storage.check()


def _scene(
    finch: ServerProcess, application: ServerProcess, environ: Mapping[str, str], *, log: Path
) -> Scene:
    # A second process of the same application, as a worker or a nightly job would be.
    component = FinchConnect.from_env(environ, redirect_uri=application.address + CALLBACK_PATH)
    traces = Traces(
        component.storage,
        url=environ["FINCH_STORAGE_URL"],
        client_id=environ["FINCH_CLIENT_ID"],
        customers=list(EMPLOYERS),
        log=log,
    )
    return Scene(
        application=application.address,
        finch=finch.address,
        connections=component.connections,
        traces=traces,
        secrets={
            "the encryption key": environ["FINCH_KEY"].partition(":")[2],
            "the client secret": environ["FINCH_CLIENT_SECRET"],
        },
    )


def _places(finch: ServerProcess, application: ServerProcess, environ: Mapping[str, str]) -> str:
    return pairs(
        [
            ("fake Finch", f"{finch.address}    process {finch.process_id}"),
            ("application", f"{application.address}    process {application.process_id}"),
            ("database", without_password(environ["FINCH_STORAGE_URL"])),
        ]
    )


def _place_of(url: str) -> str:
    return f"{without_password(url).removeprefix('sqlite:///')}, in finch_connections"


_KEEP_IT = "gone with its database; `finch-middleware demo --keep` leaves them for a look"


def _ending(report: Report, *, place: str, seconds: float) -> str:
    done = f"All {report.held} observations are as promised. {seconds:.1f} seconds in all."
    following = [
        ("the row", place),
        ("by hand", "finch-middleware demo --serve"),
        ("your own", "README.md has the few lines that your application needs"),
    ]
    return f"\n{click.style(done, fg='green', bold=True)}\n\n{pairs(following)}"


def _serve_fake(environ: Mapping[str, str], *, port: int) -> None:
    _require_usable(environ)
    servers = _fake_servers(environ, port=port)
    with until_interrupted(), _reported(), servers as (finch, application, whole):
        click.secho("The demo is up. Nothing in it is real.\n", bold=True)
        click.echo(_places(finch, application, whole))
        click.echo(f"\nOpen {application.address} in a browser. Ctrl-C stops it.\n")
        wait_while(lambda: finch.up and application.up)
        raise CannotServe("a server of the demo has ended by itself")


def _serve_real(environ: Mapping[str, str], *, port: int) -> None:
    _require_usable(environ)
    with until_interrupted(), _reported(), ExitStack() as stack:
        application = stack.enter_context(ServerProcess("application", environ=environ, port=port))
        click.echo(_real_introduction(application, environ))
        wait_while(lambda: application.up)
        raise CannotServe("the application has ended by itself")


def _real_introduction(application: ServerProcess, environ: Mapping[str, str]) -> str:
    about = [
        ("sandbox", environ.get("FINCH_SANDBOX", "none: connections are real, and Finch bills")),
        ("database", without_password(environ["FINCH_STORAGE_URL"])),
        ("key", "FINCH_KEY" if os.environ.get("FINCH_KEY") else _KEY_OF_THIS_RUN),
        ("redirect URI", f"{application.address}{CALLBACK_PATH} (register it at Finch)"),
    ]
    head = click.style("The demo is up, with Finch itself.\n", bold=True)
    return f"{head}\n{pairs(about)}\n\nOpen {application.address} in a browser. Ctrl-C stops it.\n"


_KEY_OF_THIS_RUN = "made for this run; set FINCH_KEY to open the tokens afterwards"


@contextmanager
def _reported() -> Iterator[None]:
    """A server that does not come up, or stay, as a text without traceback."""
    try:
        yield
    except CannotServe as error:
        said = str(error)
    else:
        return
    raise Fault(said)
