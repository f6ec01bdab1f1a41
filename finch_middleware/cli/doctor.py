"""``finch-middleware doctor``: what stands, what waits and what is wrong, without mending it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import click

from finch_middleware.attempts import AttemptState
from finch_middleware.cli.deployment import (
    of_application,
    taking_application,
    unreadable,
    without_password,
)
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, KeyUnavailable, SpoolUnavailable, StorageFault
from finch_middleware.operations.rotation import Census

#: Connections that are counted by default. Storages list them by a hash, so they are a sample.
_ENOUGH = 100_000
_COLOURS = {"ok": "green", "look": "yellow", "wrong": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    Attributes:
        verdict: ``look`` is for a person to judge, ``wrong`` costs somebody a connection.
    """

    verdict: Literal["ok", "look", "wrong"]
    about: str
    text: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list of what was found.")
@click.option("--all", "everything", is_flag=True, help=f"Count more than {_ENOUGH} connections.")
@taking_application
def command(as_json: bool, everything: bool, application: str | None) -> None:
    """
    Look at storage, keys, connections, attempts and this host's spool.

    Status 1 where something is wrong. A storage's tables may be made, as at its first use;
    nothing else is written, and Finch is not asked.
    """
    finch = of_application(application)
    url = None if application else os.environ.get("FINCH_STORAGE_URL")
    found = list(findings(finch, url=url, limit=None if everything else _ENOUGH))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    for each in () if as_json else found:
        verdict = click.style(f"{each.verdict:<6}", fg=_COLOURS[each.verdict])
        click.echo(f"{verdict} {each.about:<12} {each.text}")
    if any(each.verdict == "wrong" for each in found):
        sys.exit(1)


def findings(finch: FinchConnect, *, url: str | None, limit: int | None) -> Iterator[Finding]:
    """All that can be said, in the order in which a callback needs it."""
    yield _of_key(finch)
    yield from _of_spool(finch)
    storage = _of_storage(finch, url=url)
    yield storage
    if storage.verdict == "wrong":
        return
    try:
        census = finch.rotation.census(limit=limit)
        yield from _of_census(finch, census)
        yield from _of_attempts(finch)
    except StorageFault as fault:
        yield Finding(verdict="wrong", about="storage", text=str(fault))


def _of_key(finch: FinchConnect) -> Finding:
    try:
        finch.vault.prove()
    except (CannotOpen, KeyUnavailable) as error:
        return Finding(verdict="wrong", about="key", text=str(error))
    return Finding(verdict="ok", about="key", text=f"{finch.vault.key_id} seals and opens")


def _of_spool(finch: FinchConnect) -> Iterator[Finding]:
    """What is wrong with the folder; what waits in it is counted with the rest."""
    try:
        finch.spool.prove(make=False)
    except SpoolUnavailable as error:
        yield Finding(verdict="wrong", about="spool", text=str(error))


def _of_storage(finch: FinchConnect, *, url: str | None) -> Finding:
    name = without_password(url) if url else type(finch.storage).__name__
    try:
        finch.storage.check()
    except StorageFault as fault:
        return Finding(verdict="wrong", about="storage", text=f"{name}: {fault}")
    try:
        told = [f"{name} answers and keeps what is written", *finch.storage.describe()]
    except StorageFault as fault:
        return Finding(verdict="wrong", about="storage", text=f"{name}: {fault}")
    return Finding(verdict="ok", about="storage", text="; ".join(told))


def _of_census(finch: FinchConnect, census: Census) -> Iterator[Finding]:
    count, of_all = sum(census.connections.values()), "" if census.complete else "at least "
    yield Finding(verdict="ok", about="connections", text=f"{of_all}{count} of {finch.client_id}")
    if census.others:
        text = f"{of_all}{census.others} more belong to another client_id; each needs its own key"
        yield Finding(verdict="look", about="connections", text=text)
    if census.unreadable:
        text = f"{unreadable(census.unreadable)}: a later version wrote them, or somebody else"
        yield Finding(verdict="wrong", about="connections", text=text)
    yield from _of_keys(finch, census)
    if len(census.client_types) > 1:
        told = ", ".join(f"{n} {name}" for name, n in sorted(census.client_types.items()))
        text = f"{told}: applications of Finch are mixed up, one storage or client_id serves two"
        yield Finding(verdict="look", about="client type", text=text)
    waiting = sum(census.spooled.values())
    text = f"{waiting} wait on this host: run `finch-middleware sweep`"
    if waiting:
        yield Finding(verdict="look", about="spool", text=text)
    else:
        yield Finding(verdict="ok", about="spool", text="nothing waits on this host")


def _of_keys(finch: FinchConnect, census: Census) -> Iterator[Finding]:
    for key_id, count in sorted(census.keys.items()):
        text = f"{count} sealed by {key_id or 'no readable key'}"
        if key_id == finch.vault.key_id:
            yield Finding(verdict="ok", about="keys in use", text=text)
        elif finch.vault.knows(key_id):
            text += ": run `finch-middleware rotate-keys` before that key goes"
            yield Finding(verdict="look", about="keys in use", text=text)
        else:
            text += ", which is not among the accepted keys: nobody can read them"
            yield Finding(verdict="wrong", about="keys in use", text=text)


def _of_attempts(finch: FinchConnect) -> Iterator[Finding]:
    owing = [
        each
        for each in finch.storage.unsettled(leased_before=datetime.now(UTC))
        if each.client_id == finch.client_id
    ]
    interrupted = sum(each.state is AttemptState.CLAIMED for each in owing)
    quarantined = len(finch.recovery.quarantined())
    for count, text in (
        (interrupted, "were interrupted: `finch-middleware recover` lists them"),
        (len(owing) - interrupted, "still owe on_connected: `finch-middleware sweep` calls it"),
        (quarantined, "hold a quarantined token: `finch-middleware recover --quarantined`"),
    ):
        if count:
            yield Finding(verdict="look", about="attempts", text=f"{count} {text}")
    if not owing and not quarantined:
        yield Finding(verdict="ok", about="attempts", text="none is left behind")
