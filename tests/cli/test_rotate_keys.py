from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from click.testing import Result

from finch_middleware.cli import rotate_keys
from tests.cli.deployment import NEW, OLD, Deployment
from tests.cli.running import running
from tests.waiting import wait_until


@pytest.fixture
def before(tmp_path: Path) -> Deployment:
    """A deployment with the old key."""
    return Deployment(folder=tmp_path)


@pytest.fixture
def after(before: Deployment) -> Deployment:
    """The same after the second deploy."""
    return before.with_keys(NEW, OLD)


def test_every_token_is_under_the_current_key_and_the_old_one_can_go(
    before: Deployment, after: Deployment
) -> None:
    before.connect("one", "two")
    after.connect("three")

    result = after.run("rotate-keys")

    assert result.exit_code == 0
    assert (
        result.stdout.splitlines()[0]
        == "Tokens by key: 2 under k0, 1 under k1. The current key is k1."
    )
    assert result.stdout.splitlines()[-1] == "Re-encrypted with k1: 2 of 3."
    assert after.keys_of() == {"one": "k1", "two": "k1", "three": "k1"}
    assert before.with_keys(NEW).tokens() == {"one", "two", "three"}


def test_quarantined_tokens_are_re_sealed_too(before: Deployment, after: Deployment) -> None:
    held = before.quarantine("held")

    result = after.run("rotate-keys")

    [now] = after.finch.recovery.quarantined()
    assert result.exit_code == 0
    assert now.sealed is not None
    assert now.sealed.key_id == "k1"
    assert (now.attempt_id, now.settled_at) == (held.attempt_id, held.settled_at)
    assert "held" in before.with_keys(NEW).finch.vault.open_grant(now).reveal()


def test_check_fails_until_no_row_is_under_an_old_key(
    before: Deployment, after: Deployment
) -> None:
    before.connect("one")
    before.quarantine("held")

    early = after.run("rotate-keys", "--check")
    after.run("rotate-keys")
    late = after.run("rotate-keys", "--check")

    assert (early.exit_code, late.exit_code) == (1, 0)
    assert "Tokens under another key: 2." in early.stdout
    assert "Tokens under another key: 0." in late.stdout


def test_check_counts_the_tokens_in_the_spool(before: Deployment, after: Deployment) -> None:
    before.connect("one")
    before.spool("one")
    after.run("rotate-keys")

    result = after.run("rotate-keys", "--check")

    assert result.exit_code == 1
    assert "In this host's spool: 1 of them. Run `finch-middleware sweep`." in result.stdout


def test_dry_run_counts_and_changes_nothing(before: Deployment, after: Deployment) -> None:
    before.connect("one", "two")

    result = after.run("rotate-keys", "--dry-run")

    assert result.exit_code == 0
    assert "Tokens under another key: 2." in result.stdout
    assert set(after.keys_of().values()) == {"k0"}


def test_rows_whose_key_is_missing_are_left_and_named(before: Deployment) -> None:
    before.connect("one", "two")
    before.with_keys(NEW).connect("three")

    result = before.with_keys(NEW).run("rotate-keys")

    assert result.exit_code == 1
    assert "Tokens under k0 that could not be decrypted: 2." in result.stderr
    assert before.keys_of() == {"one": "k0", "two": "k0", "three": "k1"}


def test_rows_that_cannot_be_read_are_left_and_named(before: Deployment, after: Deployment) -> None:
    before.connect("one", "two", "three")
    before.spoil("two")

    checked, result = after.run("rotate-keys", "--check"), after.run("rotate-keys")

    assert (checked.exit_code, result.exit_code) == (1, 1)
    assert "1 row cannot be read ('two')" in checked.stderr
    assert "1 row cannot be read ('two')" in result.stderr
    assert after.keys_of() == {"one": "k1", "three": "k1"}


def test_rows_of_another_client_are_left_alone(before: Deployment, after: Deployment) -> None:
    before.of_client("another").connect("foreign")

    result = after.run("rotate-keys")

    assert result.exit_code == 0
    assert after.keys_of() == {"foreign": "k0"}


def test_progress_is_a_line_for_every_so_many_rows(
    before: Deployment, after: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotate_keys, "_ROWS_PER_LINE", 2)
    for name in ("_BATCH", "_SMALLEST_BATCH"):
        monkeypatch.setattr(f"finch_middleware.operations.rotation.{name}", 1)
    before.connect("one", "two", "three", "four")

    result = after.run("rotate-keys")

    assert result.stdout.splitlines()[1:-1] == [
        "2 of about 4 rows read, 2 re-encrypted",
        "4 of about 4 rows read, 4 re-encrypted",
    ]


def test_eight_shards_do_everything_once(before: Deployment, after: Deployment) -> None:
    names = [f"connection {i}" for i in range(24)]
    before.connect(*names)
    before.quarantine("held")
    shards = [("--shard", f"{i + 1}/8") for i in range(8)]

    counted = [_number(after.run("rotate-keys", "--dry-run", *each)) for each in shards]
    done = [_number(after.run("rotate-keys", *each)) for each in shards]
    left = [after.run("rotate-keys", "--check", *each).exit_code for each in shards]

    assert counted == done
    assert (sum(done), len([each for each in done if each]) > 4) == (25, True)
    assert left == [0] * 8
    assert before.with_keys(NEW).tokens() == set(names)


def _number(result: Result) -> int:
    """How many tokens a command counted or re-encrypted."""
    assert result.exit_code == 0
    return int(re.findall(r"(?:another key|with k1): (\d+)", result.stdout)[-1])


@pytest.mark.parametrize("shard", ["0/8", "9/8", "1", "1/0", "a/b", "-1/8", "1/10000", ""])
def test_a_shard_that_is_none_is_refused(after: Deployment, shard: str) -> None:
    result = after.run("rotate-keys", "--shard", shard)

    assert (result.exit_code, "such as 3/8" in result.stderr) == (2, True)


@pytest.mark.full
def test_a_killed_rotation_continues_where_it_stopped(
    before: Deployment, after: Deployment
) -> None:
    names = [f"connection {i}" for i in range(60)]
    before.connect(*names)

    with running("rotate-keys", **after.environ) as rotation:
        wait_until(lambda: set(after.keys_of().values()) != {"k0"})
        rotation.ended_by(signal.SIGKILL)
    resumed = after.run("rotate-keys")

    left = int(re.findall(r"Re-encrypted with k1: (\d+)", resumed.stdout)[-1])
    assert left < len(names)
    assert set(after.keys_of().values()) == {"k1"}
    assert before.with_keys(NEW).tokens() == set(names)
