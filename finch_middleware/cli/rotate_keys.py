"""``finch-middleware rotate-keys``: re-encrypts every stored token with the current key."""

from __future__ import annotations

import sys
from collections.abc import Collection

import click

from finch_middleware.cli.deployment import (
    app_option,
    load_component,
    shard_option,
    unopened_key,
    unreadable_rows,
)
from finch_middleware.connect import FinchConnect
from finch_middleware.operations.rotation import Census, Rotated
from finch_middleware.storage.shards import Shard

_ROWS_PER_LINE = 10_000


@click.command()
@click.option(
    "--check", is_flag=True, help="Only count the tokens under other keys; status 1 if any."
)
@click.option("--dry-run", is_flag=True, help="Only count the tokens under other keys; status 0.")
@shard_option
@app_option
def command(check: bool, dry_run: bool, shard: Shard, application: str | None) -> None:
    """
    Re-encrypt every stored token with the current key, while the application runs.

    Run it when every process has the new key as FINCH_KEY and the old one among
    FINCH_ACCEPTED_KEYS. You can stop it at any time and start it again: it continues where it
    stopped. Remove the old key when --check finds nothing, here and on every host with a spool.
    The first shard includes the tokens in quarantine and in the spool.
    """
    finch = load_component(application)
    census = finch.rotation.census(shard=shard)
    outdated = finch.rotation.outdated(census)
    current = finch.vault.key_id
    counts = ", ".join(
        f"{count} under {key_id or '?'}" for key_id, count in sorted(census.keys.items())
    )
    click.echo(f"Tokens by key: {counts or 'none'}. The current key is {current}.")
    if check or dry_run:
        click.echo(f"Tokens under another key: {outdated}.")
        if waiting := sum(census.spooled.values()) - census.spooled.get(current, 0):
            click.echo(f"In this host's spool: {waiting} of them. Run `finch-middleware sweep`.")
        _report_unreadable(census.unreadable)
        wrong = _report_wrong_keys(finch, census)
        sys.exit(1 if check and (outdated or wrong or census.unreadable) else 0)
    rotated = Rotated()
    for step in finch.rotation.run(shard=shard):
        if step.seen // _ROWS_PER_LINE > rotated.seen // _ROWS_PER_LINE:
            click.echo(
                f"{step.seen} of about {census.rows} rows read, {step.resealed} re-encrypted"
            )
        rotated = step
    click.echo(f"Re-encrypted with {current}: {rotated.resealed} of {rotated.seen}.")
    for key_id, count in sorted(rotated.unopened.items()):
        click.echo(
            f"Tokens under {key_id or 'an unknown key'} that could not be decrypted: {count}. "
            "It is not an accepted key, or the rows were altered.",
            err=True,
        )
    unreadable = {*census.unreadable, *rotated.unreadable}
    _report_unreadable(unreadable)
    if _report_wrong_keys(finch, census) or rotated.unopened or unreadable:
        sys.exit(1)


def _report_wrong_keys(finch: FinchConnect, census: Census) -> bool:
    """Whether a configured key opens none of the tokens that have its id."""
    wrong = {key_id: why for key_id, why in census.unopened.items() if finch.vault.knows(key_id)}
    for key_id, why in sorted(wrong.items()):
        click.echo(f"Tokens under {key_id}: {unopened_key(why)}.", err=True)
    return bool(wrong)


def _report_unreadable(names: Collection[str]) -> None:
    if names:
        click.echo(f"{unreadable_rows(names)}: their key is not known", err=True)
