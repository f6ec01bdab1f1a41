"""``finch-middleware connections``: what is stored, without the tokens."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import app_option, load_component, unreadable_rows
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, KeyUnavailable
from finch_middleware.records import StoredConnection

_TABLE_ROWS = 500
_INSTANTS = ("connected_at", "obtained_at")
_COLUMNS = ("connection_id", "customer_id", "provider_id", "status", *_INSTANTS)

_as_json: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line."
)


@click.group()
def command() -> None:
    """List, show, export or delete stored connections. No command shows a token."""


@command.command("list")
@click.option("--customer", metavar="ID", help="Only this customer's connections.")
@_as_json
@app_option
def listing(customer: str | None, as_json: bool, application: str | None) -> None:
    """
    List all connections.

    A terminal shows a table; a pipe or a file gets tab-separated values.
    """
    finch, unreadable = load_component(application), set[str]()
    rows: Iterable[StoredConnection] = finch.storage.connections(unreadable=unreadable)
    if customer is not None:
        rows = finch.storage.for_customer(customer)
    found = (each for each in rows if each.client_id == finch.settings.client_id)
    if sys.stdout.isatty() and not as_json:
        _echo_table(found)
    for each in found:
        click.echo(json.dumps(metadata(each)) if as_json else "\t".join(_cells(each)))
    if unreadable:
        click.echo(unreadable_rows(unreadable), err=True)
        sys.exit(1)


@command.command()
@click.argument("connection_id")
@_as_json
@app_option
def show(connection_id: str, as_json: bool, application: str | None) -> None:
    """
    Show one connection.

    The last line states whether the configured keys can decrypt its token; exit status 1 if not.
    """
    finch = load_component(application)
    stored = _one(finch, connection_id)
    facts = {**metadata(stored), "decryptable": _opens(finch, stored)}
    if as_json:
        click.echo(json.dumps(facts))
    for name, value in () if as_json else facts.items():
        click.echo(f"{name + ':':<16} {_shown(value)}")
    if not facts["decryptable"]:
        sys.exit(1)


@command.command()
@click.argument("connection_id")
@_as_json
@app_option
def history(connection_id: str, as_json: bool, application: str | None) -> None:
    """
    Show the history of a connection, oldest entry first.

    It has each flow that connected it, each status, and its end, and remains after the end.
    Entries are kept for the time of the option history_retention.
    """
    entries = load_component(application).connections.history(connection_id)
    if not entries:
        raise CommandError(f"no history is stored of a connection {connection_id!r}")
    for each in entries:
        facts = {k: v for k, v in dataclasses.asdict(each).items() if v not in (None, ())}
        facts["at"] = each.at.isoformat(timespec="seconds")
        if as_json:
            click.echo(json.dumps(facts))
            continue
        at, event = facts.pop("at"), facts.pop("event")
        shown = (f"{name}={_shown(value)}" for name, value in facts.items())
        click.echo(f"{at}  {event:<15}  {'  '.join(shown)}")


@command.command("export-metadata")
@app_option
@click.pass_context
def export_metadata(ctx: click.Context, application: str | None) -> None:
    """
    Print all connections as JSON.

    One object per line, without the encrypted token.
    """
    ctx.invoke(listing, application=application, as_json=True)


@command.command()
@click.argument("connection_id")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@_as_json
@app_option
def delete(connection_id: str, yes: bool, as_json: bool, application: str | None) -> None:
    """
    Delete a connection and its token.

    Finch is not informed: the connection is still billed, and its token stays valid. To end the
    connection, call finch.connections.disconnect instead, which needs the token.
    """
    finch = load_component(application)
    stored = _one(finch, connection_id)
    if not yes:
        click.confirm(
            f"{_shown(stored.provider_id)} of {_shown(stored.customer_id)}: deleting it loses the "
            "token, and Finch is not informed. Delete it?",
            abort=True,
            err=as_json,
        )
    gone = finch.connections.forget(connection_id, customer_id=stored.customer_id)
    if as_json:
        click.echo(json.dumps({"connection_id": connection_id, "deleted": gone}))
        return
    click.echo(
        "Deleted."
        if gone
        else "Nothing was deleted: the connection was deleted or renewed meanwhile."
    )


def metadata(stored: StoredConnection) -> dict[str, Any]:
    """What is known about a connection without decrypting anything."""
    return {
        "connection_id": stored.connection_id,
        "customer_id": stored.customer_id,
        "provider_id": stored.provider_id,
        "products": list(stored.products),
        "client_type": stored.client_type,
        "connection_type": stored.connection_type,
        "status": stored.status,
        "entities": [{"id": each.id, "status": each.status} for each in stored.entities],
        "connected_at": stored.connected_at.isoformat(),
        "obtained_at": stored.obtained_at.isoformat(),
        "attempt_id": stored.attempt_id,
        "key_id": stored.sealed.key_id,
    }


def _one(finch: FinchConnect, connection_id: str) -> StoredConnection:
    stored = finch.storage.get(connection_id)
    if stored is None or stored.client_id != finch.settings.client_id:
        raise CommandError(f"there is no connection {connection_id!r}")
    return stored


def _opens(finch: FinchConnect, stored: StoredConnection) -> bool:
    try:
        finch.vault.open_grant(stored)
    except (CannotOpen, KeyUnavailable):
        return False
    return True


def _echo_table(found: Iterator[StoredConnection]) -> None:
    # Widths are those of so many rows: memory never holds more.
    heads: Sequence[str] = [name.replace("_", " ") for name in _COLUMNS]
    count = 0
    while batch := [_cells(each) for each in islice(found, _TABLE_ROWS)]:
        widths = [max(map(len, column)) for column in zip(heads, *batch, strict=True)]
        if count == 0:
            click.secho(_line(heads, widths), bold=True)
        for cells in batch:
            click.echo(_line(cells, widths))
        count += len(batch)
    click.echo(f"{count} connection{'' if count == 1 else 's'}")


def _cells(stored: StoredConnection) -> list[str]:
    instants = {name: f"{getattr(stored, name):%Y-%m-%d %H:%M}" for name in _INSTANTS}
    facts = metadata(stored) | instants
    return [_shown(facts[name]) for name in _COLUMNS]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _shown(value: object) -> str:
    """A value for a person: no control character of a row reaches the terminal."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):  # an entity
        value = f"{value['id']} ({value['status'] or 'unknown'})"
    words: dict[object, str] = {None: "-", "": "-", True: "yes", False: "no"}
    text = words.get(value, str(value))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
