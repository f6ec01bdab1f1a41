"""``finch-middleware doctor``: checks everything that a callback needs, and changes nothing."""

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
    app_option,
    load_component,
    unopened_key,
    unreadable_rows,
    without_password,
)
from finch_middleware.connect import FinchConnect
from finch_middleware.errors import CannotOpen, KeyUnavailable, SpoolUnavailable, StorageFault
from finch_middleware.operations.rotation import Census

#: Connections that are counted by default. They are listed by a hash, so they are a fair sample.
_COUNT_LIMIT = 100_000
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    The result of one check.

    Attributes:
        verdict: ``warn``: an operator should look at it. ``fail``: connections are at risk.
    """

    verdict: Literal["ok", "warn", "fail"]
    about: str
    text: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON list.")
@click.option(
    "--all", "everything", is_flag=True, help=f"Count all connections, not just {_COUNT_LIMIT:,}."
)
@app_option
def command(as_json: bool, everything: bool, application: str | None) -> None:
    """
    Check storage, keys, connections, attempts and this host's spool.

    Each line is ok, warn or fail; exit status 1 if one is fail. The check may create the
    tables, as the first use of a storage does. It changes nothing else, and sends no request
    to Finch.
    """
    finch = load_component(application)
    url = None if application else os.environ.get("FINCH_STORAGE_URL")
    found = list(findings(finch, url=url, limit=None if everything else _COUNT_LIMIT))
    # The environment has no variable for it, so only the application's own component knows.
    if application and not finch.settings.brand:
        text = 'the pages show "the application" as its name; pass the option brand'
        found.append(Finding("warn", "brand", text))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    for each in () if as_json else found:
        verdict = click.style(f"{each.verdict:<6}", fg=_COLOURS[each.verdict])
        click.echo(f"{verdict} {each.about:<12} {each.text}")
    if any(each.verdict == "fail" for each in found):
        sys.exit(1)


def findings(finch: FinchConnect, *, url: str | None, limit: int | None) -> Iterator[Finding]:
    """Every result, in the order in which a callback needs the parts."""
    yield _of_key(finch)
    yield from _of_spool(finch)
    yield _of_webhooks(finch)
    storage = _of_storage(finch, url=url)
    yield storage
    if storage.verdict == "fail":
        return
    try:
        yield from _of_census(finch, finch.rotation.census(limit=limit))
        yield from _of_attempts(finch)
    except StorageFault as fault:
        yield Finding("fail", "storage", str(fault))


def _of_key(finch: FinchConnect) -> Finding:
    try:
        finch.vault.prove()
    except (CannotOpen, KeyUnavailable) as error:
        return Finding("fail", "key", str(error))
    return Finding("ok", "key", f"{finch.vault.key_id} encrypts and decrypts")


def _of_spool(finch: FinchConnect) -> Iterator[Finding]:
    """What is wrong with the folder; the tokens in it are counted with the connections."""
    try:
        finch.spool.prove(make=False)
    except SpoolUnavailable as error:
        yield Finding("fail", "spool", str(error))


def _of_webhooks(finch: FinchConnect) -> Finding:
    if finch.settings.webhook_secrets:
        path = finch.settings.webhook_path
        text = f"received at {path or 'a view of the application, if it has one'}"
    else:
        text = "not received; only `finch-middleware refresh` keeps the status current"
    return Finding("ok", "webhooks", text)


def _of_storage(finch: FinchConnect, *, url: str | None) -> Finding:
    name = without_password(url) if url else type(finch.storage).__name__
    try:
        finch.storage.check()
        facts = [f"{name} can be read and written", *finch.storage.describe()]
    except StorageFault as fault:
        return Finding("fail", "storage", f"{name}: {fault}")
    return Finding("ok", "storage", "; ".join(facts))


def _of_census(finch: FinchConnect, census: Census) -> Iterator[Finding]:
    count, at_least = sum(census.connections.values()), "" if census.complete else "at least "
    yield Finding("ok", "connections", f"{at_least}{count} of client_id {finch.settings.client_id}")
    if census.others:
        text = f"{at_least}{census.others} of another client_id, which needs its own key"
        yield Finding("warn", "connections", text)
    if census.unreadable:
        text = f"{unreadable_rows(census.unreadable)}: written by a newer version, or altered"
        yield Finding("fail", "connections", text)
    yield from _of_keys(finch, census)
    if len(census.client_types) > 1:
        counts = ", ".join(f"{n} {name}" for name, n in sorted(census.client_types.items()))
        text = f"{counts}: use one storage per Finch application, not one for several"
        yield Finding("warn", "client type", text)
    if waiting := sum(census.spooled.values()):
        text = f"tokens waiting on this host: {waiting}; run `finch-middleware sweep`"
        yield Finding("warn", "spool", text)
    else:
        yield Finding("ok", "spool", "no token is waiting on this host")


def _of_keys(finch: FinchConnect, census: Census) -> Iterator[Finding]:
    for key_id, count in sorted(census.keys.items()):
        text = f"tokens under {key_id or 'an unknown key'}: {count}"
        if finch.vault.knows(key_id) and key_id in census.unopened:
            text += f"; {unopened_key(census.unopened[key_id])}"
            yield Finding("fail", "keys in use", text)
        elif key_id == finch.vault.key_id:
            yield Finding("ok", "keys in use", text)
        elif finch.vault.knows(key_id):
            text += "; run `finch-middleware rotate-keys` before you remove that key"
            yield Finding("warn", "keys in use", text)
        else:
            text += "; it is not an accepted key, so they cannot be decrypted"
            yield Finding("fail", "keys in use", text)


def _of_attempts(finch: FinchConnect) -> Iterator[Finding]:
    pending = [
        each
        for each in finch.storage.unsettled(leased_before=datetime.now(UTC))
        if each.client_id == finch.settings.client_id
    ]
    interrupted = sum(each.state is AttemptState.CLAIMED for each in pending)
    quarantined = len(finch.recovery.quarantined())
    for count, text in (
        (interrupted, "interrupted: {}; `finch-middleware recover` lists them"),
        (
            len(pending) - interrupted,
            "with a pending on_connected: {}; `finch-middleware sweep` calls it",
        ),
        (quarantined, "in quarantine: {}; run `finch-middleware recover --quarantined`"),
    ):
        if count:
            yield Finding("warn", "attempts", text.format(count))
    if not pending and not quarantined:
        yield Finding("ok", "attempts", "none is interrupted, pending or in quarantine")
