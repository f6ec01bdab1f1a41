"""``finch-middleware connections``: what is stored, for people and programs; never a token."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import of_application, taking_application, unreadable
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, KeyUnavailable
from finch_middleware.records import StoredConnection

_BATCH = 500
_COLUMNS = ("connection_id", "customer_id", "provider_id", "status", "obtained_at")

_as_json: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line."
)


@click.group()
def command() -> None:
    """List, show, export or delete stored connections. Nothing here shows a token."""


@command.command("list")
@click.option("--customer", metavar="ID", help="Only this customer's, by your own id of it.")
@_as_json
@taking_application
def listing(customer: str | None, as_json: bool, application: str | None) -> None:
    """Every connection in a table; tab-separated where nobody looks on."""
    finch, left_out = of_application(application), set[str]()
    found = _stored(finch, left_out) if customer is None else _of_customer(finch, customer)
    if as_json:
        _echo_lines(found)
    elif sys.stdout.isatty():
        _echo_table(found)
    else:
        for each in found:
            click.echo("\t".join(_cells(each)))
    _require_all_read(left_out)


@command.command()
@click.argument("connection_id")
@_as_json
@taking_application
def show(connection_id: str, as_json: bool, application: str | None) -> None:
    """One connection, and whether its token opens with the keys at hand."""
    finch = of_application(application)
    stored = _one(finch, connection_id)
    told = {**metadata(stored), "opens": _opens(finch, stored)}
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, value in told.items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name + ':':<16} {_plain(text)}")


@command.command("export-metadata")
@taking_application
def export_metadata(application: str | None) -> None:
    """Every connection as one JSON object a line, without what is encrypted."""
    left_out = set[str]()
    _echo_lines(_stored(of_application(application), left_out))
    _require_all_read(left_out)


@command.command()
@click.argument("connection_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
@taking_application
def delete(connection_id: str, yes: bool, as_json: bool, application: str | None) -> None:
    """
    Remove a connection and its encrypted token from the storage.

    At Finch it stays connected and is billed, and its token stays valid: disconnect it there
    first, for that needs the token.
    """
    finch = of_application(application)
    stored = _one(finch, connection_id)
    if not yes:
        click.confirm(
            f"{_plain(stored.customer_id)}'s {_plain(stored.provider_id)}: nobody will hold its "
            "token any more, and Finch is not told. Delete it?",
            abort=True,
            err=as_json,
        )
    gone = finch.storage.delete(connection_id)
    if as_json:
        click.echo(json.dumps({"connection_id": connection_id, "deleted": gone}))
        return
    click.echo("deleted" if gone else "somebody was faster: it is gone already")


def metadata(stored: StoredConnection) -> dict[str, Any]:
    """What is known of a connection without opening anything."""
    return {
        "connection_id": stored.connection_id,
        "customer_id": stored.customer_id,
        "provider_id": stored.provider_id,
        "products": list(stored.products),
        "client_type": stored.client_type,
        "connection_type": stored.connection_type,
        "status": stored.status,
        "obtained_at": stored.obtained_at.isoformat(),
        "attempt_id": stored.attempt_id,
        "key_id": stored.sealed.key_id,
    }


def _stored(finch: FinchConnect, left_out: set[str]) -> Iterator[StoredConnection]:
    """Every connection of this client_id; names of rows that cannot be read go to *left_out*."""
    after: str | None = None
    while True:
        batch = finch.storage.scan(after=after, limit=_BATCH)
        left_out.update(batch.unreadable)
        if not batch.connections:
            return
        yield from (each for each in batch.connections if each.client_id == finch.client_id)
        after = batch.connections[-1].connection_id


def _require_all_read(left_out: set[str]) -> None:
    """End with status 1, once the others are told, where rows could not be read."""
    if left_out:
        click.echo(unreadable(left_out), err=True)
        sys.exit(1)


def _of_customer(finch: FinchConnect, customer_id: str) -> Iterator[StoredConnection]:
    found = finch.storage.for_customer(customer_id)
    return (each for each in found if each.client_id == finch.client_id)


def _one(finch: FinchConnect, connection_id: str) -> StoredConnection:
    stored = finch.storage.get(connection_id)
    if stored is None or stored.client_id != finch.client_id:
        raise CommandError(f"there is no connection {connection_id!r}")
    return stored


def _opens(finch: FinchConnect, stored: StoredConnection) -> bool:
    try:
        finch.vault.open_grant(stored)
    except (CannotOpen, KeyUnavailable):
        return False
    return True


def _echo_lines(found: Iterator[StoredConnection]) -> None:
    for each in found:
        click.echo(json.dumps(metadata(each)))


def _echo_table(found: Iterator[StoredConnection]) -> None:
    # As wide as its batch needs: however many there are, memory holds one batch.
    heads: Sequence[str] = [name.replace("_", " ") for name in _COLUMNS]
    count = 0
    while batch := [_cells(each) for each in islice(found, _BATCH)]:
        widths = [max(map(len, column)) for column in zip(heads, *batch, strict=True)]
        if count == 0:
            click.secho(_line(heads, widths), bold=True)
        for cells in batch:
            click.echo(_line(cells, widths))
        count += len(batch)
    click.echo(f"{count} connection{'' if count == 1 else 's'}")


def _cells(stored: StoredConnection) -> list[str]:
    told = metadata(stored) | {"obtained_at": f"{stored.obtained_at:%Y-%m-%d %H:%M}"}
    return [_plain(told[name] or "-") for name in _COLUMNS]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _plain(value: object) -> str:
    """Text for a terminal: whatever stands in a row, it moves no cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
